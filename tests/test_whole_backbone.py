"""What results/README.md says of the trainings from a whole backbone is what was measured."""

from __future__ import annotations

import statistics

from page_claims import LOSSES_OF_TABLE, REPOSITORY, RESULTS, assert_shown, claim, measured, numbers, table

from aploss_mx.report.plan import SCALES, rows_of


def test_augmentations_of_a_whole_backbone():
    rows = {row["row"]: numbers(row, "AP", "AP50", "AP75") for row in measured("whole/augmentations.csv")}
    cells, gaps = table("| loss | mirroring: AP |", RESULTS), []
    for name, *figures in cells:
        flip, ssd = (rows[f"{LOSSES_OF_TABLE[name]}, {augmentation}"] for augmentation in ("flip", "ssd"))
        assert_shown(" | ".join(figures), [*flip, *ssd])
        gaps.append(flip[0] - ssd[0])
    assert 2 * len(cells) == len(rows)
    assert_shown(claim("In AP mirroring is ahead for each, by (.*?),", RESULTS), [min(gaps), max(gaps)])
    lead = rows["ap, flip"][0] - rows["focal, flip"][0]
    assert_shown(claim("AP-loss leads focal loss by (.*?) AP", RESULTS), [lead])
    lead = rows["ap, ssd"][0] - rows["ohem, ssd"][0]
    assert_shown(claim("with SSD's, OHEM is (.*?) AP behind", RESULTS), [lead])


def test_longer_trainings_of_a_whole_backbone_with_two_rates():
    rows = {row["row"]: numbers(row, "AP", "AP50", "AP75") for row in measured("whole/learning_rates_longer.csv")}
    cells, gains = table("| loss | 0.001: AP |", RESULTS), {}
    for name, *figures in cells:
        high, low = (rows[f"{LOSSES_OF_TABLE[name]}, adam, lr {lr}, backbone x 0.1"] for lr in ("0.001", "0.0003"))
        assert_shown(" | ".join(figures), [*high, *low])
        gains[name] = high[0] - low[0]
        assert high[1] < low[1] and high[2] > low[2]
    assert 2 * len(cells) == len(rows)
    assert_shown(claim("Now 0.001 is ahead for AP-loss, by (.*?) AP", RESULTS), [gains["AP-loss"]])
    assert_shown(claim("and 0.0003 for AUC-loss, by (.*?);", RESULTS), [-gains["AUC-loss"]])
    assert gains["focal loss"] > 0.1 > abs(gains["OHEM"])


def test_what_a_whole_backbone_has_begun_with():
    measured_by_row = {row["row"]: numbers(row, "AP", "AP50") for row in measured("whole/learning_rates.csv")}
    diverged = [row["row"] for row in measured("whole/diverged.csv")]
    finished, choices = len(measured_by_row), [row.name for row in rows_of("learning_rates", SCALES["whole"])]
    for loss, optimizer, *cells in table("| loss | optimiser, rate | backbone", RESULTS):
        for factor, shown in (("0.1", cells[:2]), ("1", cells[2:])):
            row = f"{LOSSES_OF_TABLE[loss]}, {optimizer.lower().replace(', ', ', lr ')}, backbone x {factor}"
            choices.remove(row)
            if shown[0] == "not finite":
                diverged.remove(row)
            else:
                assert_shown(" | ".join(shown), measured_by_row.pop(row))
    assert not measured_by_row and not choices and not diverged
    assert claim(r"Of the grid's 32 trainings (\d+) are finished", RESULTS) == str(finished)
    old = [row for row in measured("small/learning_rates.csv") if row["row"].startswith("ap,")]
    best = max(old, key=lambda row: float(row["AP"]))
    assert_shown(claim(r"the same everywhere, had \[([\d.]+ and [\d.]+)\]", RESULTS), numbers(best, "AP", "AP50"))


def test_table_2_of_a_whole_backbone():
    runs = measured("whole/table2.csv")
    papers = {(row["row"], row["figure"]): float(row["paper"]) for row in measured("whole/table2_summary.csv")}
    means: dict[str, list[float]] = {}
    for loss, seeds, *cells in table("| loss | seeds | AP paper |", RESULTS):
        name, expected = f"{LOSSES_OF_TABLE[loss]}, VOC07", []
        own = [run for run in runs if run["row"] == name]
        assert len(own) == int(seeds)
        for column in ("AP", "AP50", "AP75"):
            values = [float(run[column]) for run in own]
            measures = (statistics.mean, statistics.stdev)[: min(2, len(own))]
            expected += [papers[name, column], *(measure(values) for measure in measures)]
            means.setdefault(loss, []).append(statistics.mean(values))
        assert_shown(" | ".join(cells), expected)
        runs = [run for run in runs if run not in own]
    assert runs == []
    leads = claim(r"ahead of focal loss by ([\d.]+) AP, ([\d.]+) AP50 and ([\d.]+) AP75, over two seeds", RESULTS)
    assert_shown(" ".join(leads), [mine - theirs for mine, theirs in zip(means["AP-loss"], means["focal loss"])])
    first = {run["row"]: float(run["AP"]) for run in measured("whole/table2.csv") if run["seed"] == "0"}
    lead = claim(r"with the same seed, 0, of OHEM by ([\d.]+) AP", RESULTS)
    assert_shown(lead, [first["ap, VOC07"] - first["ohem, VOC07"]])
    report = (REPOSITORY / "results/whole/table2.md").read_text(encoding="utf-8")
    assert len({claim(r"Seeds make a row vary by ([\d.]+) AP", page) for page in (RESULTS, report)}) == 1
    (other,) = measured("whole/table2_lr_0.0003.csv")
    assert_shown(claim(r"AP-loss had \[(.*?)\]", RESULTS), numbers(other, "AP", "AP50", "AP75"))


def test_table_3_of_a_whole_backbone():
    rows = measured("whole/table3.csv")
    for figure in ("AP50", "AP"):
        shown = claim(rf"the two AP-losses have .*?\b{figure} ([\d.]+ in place of [\d.]+)", RESULTS)
        tests = (
            [float(row[figure]) for row in rows if row["row"].endswith(end)] for end in ("multi-scale", "single scale")
        )
        assert_shown(shown, [statistics.mean(values) for values in tests])
