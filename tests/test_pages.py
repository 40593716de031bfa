"""The pages' numbers are those of the committed measurements, rounded."""

from __future__ import annotations

import json
import operator
import re
import statistics

import pytest
from page_claims import (
    DEPLOYMENT,
    METHOD,
    PAGES,
    README,
    REPOSITORY,
    RESULTS,
    SPEED,
    assert_shown,
    claim,
    measured,
    numbers,
    table,
)

from aploss_mx.config import load_recipe
from aploss_mx.evaluation.calibration import Calibration

# By header: the label of each row, and the table and row of results that it shows.
ROWS = {
    "| loss | AP paper |": {
        "AP-loss": ("whole/table2", "ap, VOC07"),
        "focal loss": ("whole/table2", "focal, VOC07"),
        "OHEM": ("whole/table2", "ohem, VOC07"),
        "AUC-loss": ("whole/table2", "auc, VOC07"),
    },
    "| images a ranking |": {images: ("whole/table1a", f"batch {images}") for images in "1248"},
    "| AP-loss with |": {
        "δ = 1, interpolated: the default": ("whole/table1b", "delta 1"),
        "δ = 0.25": ("whole/table1b", "delta 0.25"),
        "δ = 0.5": ("whole/table1b", "delta 0.5"),
        "δ = 2": ("whole/table1b", "delta 2"),
        "without interpolation": ("whole/table1c", "interpolated false"),
    },
    "| test | AP50 paper |": {
        "one scale": ("whole/table3", "ap, VOC07, single scale"),
        "several": ("whole/table3", "ap, VOC07, multi-scale"),
    },
}


# By the first cell of the summary: the rows of results whose first measure it compares.
SUMMARY = {
    "Table 1a": ("whole/table1a", ["batch 8", "batch 1"]),
    "Table 1b": ("whole/table1b", [f"delta {delta}" for delta in ("1", "0.25", "0.5", "2")]),
    "Table 1c": ("whole/table1c", ["interpolated true", "interpolated false"]),
    "Table 2, VOC": ("whole/table2", [f"{loss}, VOC07" for loss in ("ap", "focal", "ohem", "auc")]),
    "Table 3, VOC2007": ("whole/table3", ["ap, VOC07, multi-scale", "ap, VOC07, single scale"]),
}


def committed_figures(name: str, row: str) -> list[str]:
    """Paper, measured and difference of AP, AP50 and AP75, as a table of results has them."""
    text = (REPOSITORY / "results" / f"{name}.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


@pytest.mark.parametrize("page, header", [(README, "| loss | AP paper |"), *((RESULTS, header) for header in ROWS)])
def test_pages_show_the_committed_figures(page, header):
    """Paper and measured of each row's figures, without the differences."""
    rows = ROWS[header]
    cells = table(header, page)
    assert [label for label, *_ in cells] == list(rows)
    for label, *figures in cells:
        name, row = rows[label]
        assert figures == [figure for place, figure in enumerate(committed_figures(name, row)) if place % 3 < 2]


def test_summary():
    shown = {cells[0].strip("[").partition("]")[0]: cells for cells in table("| of the paper |", RESULTS)}
    for label, (name, rows) in SUMMARY.items():
        _, _, *figures, _ = shown.pop(label)
        for place, cell in enumerate(figures):
            assert cell == " / ".join(committed_figures(name, row)[place].partition(" ±")[0] for row in rows)
    assert not any(paper or here for _, _, paper, here, _ in shown.values())


def anchors(page: str) -> set[str]:
    """What GitHub calls a page's headings: the words in small letters, joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", PAGES[name]):
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(PAGES[str(target.resolve().relative_to(REPOSITORY))]), link


def test_what_is_said_of_gpus_is_run():
    """Each test that docs/gpu.md names is there, and the last row alone has none."""
    tests = {path: path.read_text(encoding="utf-8") for path in REPOSITORY.glob("tests/**/*.py")}
    rows = table("| said in README", PAGES["docs/gpu.md"])
    assert len(rows) > 25
    for said, run_by in rows[1:-1] + table("| fault |", PAGES["docs/gpu.md"]):
        named = re.findall(r"`(test\w+|tests/[\w/]+\.py)`", run_by)
        assert named, said
        for name in named:
            here = (REPOSITORY / name).is_file() or any(f"def {name}(" in text for text in tests.values())
            assert here, f"{said}: there is no {name}"
    assert rows[-1][1] == "nothing"
    listed = (REPOSITORY / "tests" / "gpu" / "run.sh").read_text(encoding="utf-8")
    names = "focal_loss ohem_loss ranking_loss_blocks ap_loss_operator data_parallel"
    assert all(name in listed for name in names.split())


def test_pages_show_every_table():
    tables = {f"{path.parent.name}/{path.stem}" for path in REPOSITORY.glob("results/*/table*.md")}
    assert tables == {name for rows in ROWS.values() for name, _ in rows.values()}


def test_ends_of_the_optimisers():
    ends: dict[str, list[float]] = {}
    unstable: dict[int, list[float]] = {}
    for point in measured("whole/figure5b.csv"):
        step, value = int(point["step"]), float(point["value"])
        if step >= 1655:
            ends.setdefault(point["row"], []).append(value)
        if point["row"] == "approximate gradient, lr 0.001":
            unstable.setdefault((step - 1) // 50, []).append(value)
    names = ("error-driven update", "approximate gradient", "structured hinge loss")
    for rate, *losses in table(f"| learning rate | {' | '.join(names)} |", RESULTS):
        means = [statistics.mean(ends.pop(f"{name}, lr {rate}")) for name in names]
        assert_shown(" | ".join(losses), means)
        assert means == sorted(means)
    assert not ends
    shown = claim(r"mean of 50 steps\s+falls\s+to ([\d.]+)\s+within 300", RESULTS)
    means = [statistics.mean(unstable[part]) for part in sorted(unstable)]
    assert min(means) in means[:6]
    assert_shown(shown, [min(means)])


def test_times_of_loss_and_loop():
    rows = measured("loss.csv")
    cells = table("| scores | positives |", SPEED)
    assert len(rows) == len(cells) == 6
    for row, (scores, positives, regime, *times) in zip(rows, cells):
        assert regime == row["regime"]
        if scores:
            assert_shown(f"{scores} | {positives}", numbers(row, "scores", "positives"))
        columns = ("exact_seconds", "numpy_seconds", "loop_seconds", "speed_up", "copies")
        assert_shown(" | ".join(times), numbers(row, *columns))


def test_claims_of_speed():
    rows = measured("loss.csv")
    early, late, gains = [], [], []
    for row in rows:
        exact, numpy, loop = numbers(row, "exact_seconds", "numpy_seconds", "loop_seconds")
        (late if row["regime"] == "late" else early).append((loop / exact, loop / numpy))
        gains.append(numpy / exact)
    ends = [end(speeds) for part in (early, late) for speeds in zip(*part) for end in (min, max)]
    assert_shown(claim(r"The exact loss is measured at (.*?)\n\n", SPEED), ends)
    assert_shown(claim(r"\[Measured\]\(docs/speed.md\) with numba, (.*?)\n\n", README), ends[:2] + ends[4:6])
    assert_shown(claim(r"on the CPU\]\(speed.md\) up to ([\d.]+) times", PAGES["docs/devices.md"]), [max(gains)])
    memory = [float(row["memory"]) for row in rows]
    assert_shown(claim(r"the gradient included, is (.*?) times", SPEED), [min(memory), max(memory)])


def test_times_of_all_losses():
    rows = measured("loss_contenders.csv")
    names = list(dict.fromkeys(row["contender"] for row in rows))
    cells = table(f"| scores as in training | {' | '.join(f'`{name}`' for name in names)} |", SPEED)
    assert [regime for regime, *_ in cells] == ["early", "mid", "late"]
    for regime, *times in cells:
        of_regime = [row for row in rows if row["regime"] == regime]
        assert_shown(
            " | ".join(times), [*numbers(of_regime[0], "seconds"), *(float(row["to_ap"]) for row in of_regime[1:])]
        )


def test_times_of_steps():
    columns = {
        "load, augment and assign targets of the batch, one process": "load",
        "class loss and its gradient": "class loss",
        "network on a test image": "network",
    }
    rows = [*measured("step_resnet50_512.csv"), *measured("step_resnet101_512.csv")]
    assert [row["loss"] for row in rows] == ["ap", "focal"] * 2
    cells = table("| seconds | ResNet-50, `ap` | ResNet-50, `focal` | ResNet-101, `ap` | ResNet-101, `focal` |", SPEED)
    assert {*columns, "forward", "backward", "whole step", "peak memory"} == {name for name, *_ in cells}
    for name, *times in cells:
        assert_shown(" | ".join(times), [float(row[columns.get(name, name)]) for row in rows])
    shares = [100 * float(row["class loss, share of a step"]) for row in rows[::2]]
    assert_shown(claim(r"AP-loss takes ([\d.]+ to [\d.]+) % of these steps", SPEED), [min(shares), max(shares)])


@pytest.mark.parametrize(("name", "header"), [("quickstart", "| quickstart, 128"), ("voc", "| voc-resnet18, 256")])
def test_networks_side_by_side(name, header):
    rows = measured(f"inference_{name}.csv")
    cells = table(header, SPEED)
    assert [network for network, *_ in cells] == [row["network"] for row in rows]
    for row, (_, *figures) in zip(rows, cells):
        speeds = numbers(row, "batch 1", "batch 8", "cpu 1", "cpu 8")
        expected = [*speeds[:2], *(1000 * seconds for seconds in speeds[2:])]
        expected += [float(row[column]) for column in ("AP", "AP50") if row[column]]
        expected += [float(row[column]) / 1e6 for column in ("disk", "peak")]
        assert_shown(" | ".join(figures), expected)
    *_, last = re.findall(r"\*\*(no|with)\s+VNNI\*\*", SPEED.split(header)[0])
    assert last == ("no" if "no VNNI" in rows[0]["chip"] else "with")


def test_gains_of_int8():
    """Those without VNNI, on the quickstart, come first."""
    gains: dict[str, list[float]] = {"MXNet INT8": [], "onnxruntime INT8": []}
    fused: list[float] = []
    for name in ("quickstart", "voc"):
        rows = {row["network"]: numbers(row, "batch 1", "batch 8") for row in measured(f"inference_{name}.csv")}
        fused += map(operator.truediv, rows["MXNet float32, fused"], rows["MXNet float32"])
        floats = [speeds for network, speeds in rows.items() if "float32" in network]
        assert list(map(max, *floats)) == rows["onnxruntime float32"]
        for network, found in gains.items():
            found += map(operator.truediv, rows[network], rows["onnxruntime float32"])
    patterns = (r"MXNet's INT8 is (.*?) times with it", r"onnxruntime's INT8 is (.*?) times with it")
    for pattern, found in zip(patterns, gains.values()):
        assert_shown(claim(pattern, SPEED).replace("float32", ""), found)
    assert_shown(claim(r"optimize_for\(\"MKLDNN\"\)`\): (.*?) times", SPEED), [min(fused), max(fused)])


def test_cost_of_int8():
    costs = []
    for name in ("quickstart", "voc"):
        rows = {row["network"]: float(row["AP"] or "nan") for row in measured(f"inference_{name}.csv")}
        costs += [rows["MXNet float32"] - ap for network, ap in rows.items() if "INT8" in network]
    assert_shown(claim(r"INT8 costs ([\d.]+) AP at most", SPEED), [max(costs)])


@pytest.mark.parametrize(("name", "header"), [("quickstart", "| quickstart, AP"), ("voc", "| voc-resnet18, AP")])
def test_calibration_errors(name, header):
    errors = []
    for what in ("score", "confidence"):
        rows = [row for row in measured(f"reliability_{name}.csv") if row["what"] == what and row["said"]]
        counts = [int(row["count"]) for row in rows]
        distances = [abs(float(row["right"]) - float(row["said"])) for row in rows]
        errors.append(sum(map(operator.mul, counts, distances)) / sum(counts))
    (row,) = (line for line in DEPLOYMENT.splitlines() if line.startswith(header))
    assert_shown(" | ".join(row.split("|")[2:4]), errors)


def test_confidences_that_are_too_low():
    """Rows are of tenths."""
    rows = [row for row in measured("reliability_voc.csv") if row["what"] == "confidence"]
    assert "too low from 0.3 to 0.9" in DEPLOYMENT
    assert all(float(row["right"]) - float(row["said"]) > 0.04 for row in rows[3:9])
    for pattern, tenth in ((r"with 0\.4 to 0\.5, (\d+) in 100 are right", 4), (r"with 0\.7 to 0\.8, (\d+)\.", 7)):
        assert_shown(claim(pattern, DEPLOYMENT), [100 * float(rows[tenth]["right"])])


def test_confidence_of_changed_pictures():
    rows = {row.pop("changed"): row for row in measured("confidence_shift.csv")}
    cells = re.findall(r"^  \| (\w.*?) \| (\d.*?) \|$", DEPLOYMENT, re.MULTILINE)
    assert {changed for changed, _ in cells} == set(rows)
    for changed, figures in cells:
        assert_shown(figures, numbers(rows[changed], "shown", "said", "right"))


def test_losses_on_the_quickstart():
    times = {row["loss"]: numbers(row, "class loss", "whole step") for row in measured("step_quickstart.csv")}
    rows = table("| `--loss` | seeds |", METHOD)
    assert {f"`{loss}`" for loss in times} == {name for name, *_ in rows}
    for name, seeds, *cells in rows:
        loss = name.strip("`")
        runs = [row for row in measured("quickstart_losses.csv") if row["loss"] == loss]
        assert len(runs) == int(seeds)
        measures = (statistics.mean, statistics.stdev)[: min(2, len(runs))]
        precisions = [[float(run[column]) for run in runs] for column in ("AP", "AP50", "AP75")]
        expected = [measure(values) for values in precisions for measure in measures]
        assert_shown(" | ".join(cells), [*expected, *times[loss]])


def test_other_trainings():
    files = ("quickstart/metrics", "../models/voc-resnet18", "small_bccd/metrics", "small_coco/metrics",
             "small_coco/metrics_from_32x32")  # fmt: skip
    rows = table("| data | recipe |", RESULTS)
    assert len(rows) == len(files)
    for name, (_, _, _, *precisions, _) in zip(files, rows):
        metrics = json.loads((REPOSITORY / "results" / f"{name}.json").read_text(encoding="utf-8"))
        expected = [100 * metrics[column] for column in ("AP", "AP50", "AP75", "VOC07_AP50")]
        assert_shown(" | ".join(precisions), expected)


def test_fine_tuning():
    rows = table("| start | AP |", PAGES["models/README.md"])
    assert len(rows) == 2
    for start, *cells in rows:
        runs = [row for row in measured("fine_tuning.csv") if row["start"] == start.strip("`")]
        assert sorted(row["seed"] for row in runs) == ["0", "1", "2"]
        columns = [column for column in runs[0] if column not in ("start", "seed")]
        values = [[float(run[column]) for run in runs] for column in columns]
        assert_shown(" | ".join(cells), [f(of) for of in values for f in (statistics.mean, statistics.stdev)])


def test_what_the_papers_scale_would_take():
    """Steps were measured with COCO's 80 classes; VOC has 60 fewer, of 6 filters each. Times have two digits."""
    fewer = 60 * 6 * 9 * 256 * sum((512 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    speeds = {}
    for name, data, *shown in table("| training | images, epochs |", RESULTS):
        network = name.partition(",")[0]
        step = measured(f"step_{network.lower().replace('-', '')}_512.csv")[0]
        adds, seconds = 1e9 * float(step["multiply-adds forward"]), float(step["whole step"])
        images, epochs = (int(number.replace(",", "")) for number in data.split(", "))
        total = 6 * (adds / 2 - fewer * ("VOC" in name)) * images * epochs
        speeds[network] = 6 * adds / seconds
        times = (total / speeds[network] / 86400, total / (2 * 0.4 * 15.7e12) / 3600)
        expected = [total / 1e18, *(float(f"{time:.2g}") for time in times)]
        assert_shown(" | ".join(shown).replace("·10¹⁸", ""), expected)
    for network, speed in speeds.items():
        shown_speed = claim(rf"([\d.]+)·10¹²(?: operations a second)? with \[{network}\]", RESULTS)
        assert_shown(shown_speed, [speed / 1e12])


@pytest.mark.parametrize("name", ["quickstart", "small_bccd", "small_coco"])
def test_other_trainings_are_of_the_shipped_recipes(name):
    shipped, shown = load_recipe(name), load_recipe(str(REPOSITORY / "results" / name / "recipe.yaml"))
    read = {"pretrained": shown.pretrained} if shipped.pretrained == "gluoncv" else {}
    if shipped.classes in ("voc", "data"):
        read["classes"] = shown.classes
    assert shipped.override(**read).with_names(shown.classes) == shown.with_names(shown.classes)


def test_the_score_that_is_a_confidence_of_a_half():
    fitted = json.loads((REPOSITORY / "models" / "voc-resnet18.json").read_text(encoding="utf-8"))["calibration"]
    score = Calibration(fitted["slope"], fitted["offset"]).score(0.5)
    assert_shown(claim(r"voc-resnet18's score of ([\d.]+) is a confidence of 0\.5", DEPLOYMENT), [score])
