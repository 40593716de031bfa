"""What results/README.md says of the trainings from a whole backbone is what was measured."""

from __future__ import annotations

import re
import statistics

from page_claims import LOSSES_OF_TABLE, README, REPOSITORY, RESULTS, assert_shown, claim, measured, numbers, table

from aploss_mx.config import load_recipe
from aploss_mx.data.voc import VOC_CLASSES
from aploss_mx.geometry.anchors import make_anchors
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


def test_the_grid_of_optimisers_and_rates():
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
    assert claim(r"Of the 32 trainings (\d+) are finished", RESULTS) == str(finished)


def means(name: str) -> dict[str, list[float]]:
    """AP, AP50 and AP75 of each row of a table, over its seeds."""
    rows: dict[str, list[list[float]]] = {}
    for row in measured(name):
        rows.setdefault(row["row"], []).append(numbers(row, "AP", "AP50", "AP75"))
    return {row: [statistics.mean(column) for column in zip(*seeds)] for row, seeds in rows.items()}


def test_what_a_whole_backbone_changed():
    before, now = means("whole/before.csv"), means("whole/table2.csv")
    for loss, *cells in table("| loss | last stage at random", RESULTS):
        row = f"{LOSSES_OF_TABLE[loss]}, VOC07"
        assert_shown(" | ".join(cells), [*before.pop(row), *now[row]])
    assert not before


def test_leads_in_table_2():
    rows = means("whole/table2.csv")
    ap, focal, ohem = (rows[f"{loss}, VOC07"] for loss in ("ap", "focal", "ohem"))
    lead = [mine - theirs for mine, theirs in zip(ap, focal)]
    shown = claim(r"ahead of focal loss by ([\d.]+) AP and ([\d.]+) AP50", RESULTS)
    assert_shown(" ".join(shown), lead[:2])
    assert_shown(claim(r"focal loss is level with AP-loss, ([\d.]+) behind", RESULTS), lead[2:])
    assert_shown(claim(r"\[at small scale\].*? by ([\d.]+)\.\n", README), lead[:1])
    shown = claim(r"and of OHEM by ([\d.]+) AP and ([\d.]+) AP75", RESULTS)
    assert_shown(" ".join(shown), [ap[0] - ohem[0], ap[2] - ohem[2]])
    paper = [float(of_paper) for of_paper in claim(r"less than half of the paper's, ([\d.]+) and ([\d.]+)\.", RESULTS)]
    assert 2 * lead[0] < paper[0] and 2 * (ap[0] - ohem[0]) < paper[1]
    assert_shown(claim(r"level with AP-loss, ([\d.]+) ahead", RESULTS), [ohem[1] - ap[1]])
    assert abs(ohem[0] - focal[0]) < 0.1
    report = (REPOSITORY / "results/whole/table2.md").read_text(encoding="utf-8")
    assert len({claim(r"Seeds make a row vary by ([\d.]+) AP", page) for page in (RESULTS, report)}) == 1
    lower = means("whole/table2_lr_0.0003.csv")
    ap_low, focal_low = (lower[f"{loss}, VOC07"] for loss in ("ap", "focal"))
    assert_shown(claim(r"AP-loss had \[(.*?)\]", RESULTS), ap_low)
    assert_shown(claim(r"Focal loss had (.*?) \(seed 0\), no more in AP50", RESULTS), focal_low)
    assert focal_low[1] < focal[1]
    shown = claim(r"that rate AP-loss leads it by ([\d.]+) AP and ([\d.]+) AP50", RESULTS)
    assert_shown(" ".join(shown), [ap_low[0] - focal_low[0], ap_low[1] - focal_low[1]])


def test_images_ranked_together():
    rows = means("whole/table1a.csv")
    alone, together = rows["batch 1"], rows["batch 8"]
    assert together == means("whole/table2.csv")["ap, VOC07"]
    assert all(min(row[place] for row in rows.values()) == alone[place] for place in (0, 1))
    paper = {row.name: row.metrics for row in rows_of("table1a", SCALES["whole"])}
    behind = [paper["batch 8"][name] - paper["batch 1"][name] for name in ("AP", "AP50")]
    shown = claim(r"in AP and in AP50, by ([\d.]+) and ([\d.]+) behind all 8 .*? by ([\d.]+) and ([\d.]+)\.", RESULTS)
    assert_shown(" ".join(shown), [together[0] - alone[0], together[1] - alone[1], *behind])
    found, noise = claim(r"all four are within ([\d.]+) AP, and seeds make a row vary by ([\d.]+)\.", RESULTS)
    ends = [row[0] for row in rows.values()]
    assert_shown(found, [max(ends) - min(ends)])
    report = (REPOSITORY / "results/whole/table1a.md").read_text(encoding="utf-8")
    assert noise == claim(r"Seeds make a row vary by ([\d.]+) AP", report)
    assert max(ends) - min(ends) < float(noise)
    assert together[2] == min(row[2] for row in rows.values())
    assert all(paper["batch 8"]["AP75"] > figures["AP75"] for name, figures in paper.items() if name != "batch 8")


def test_score_shifts():
    splits = [measured(f"whole/score_shift_{split}.csv") for split in ("val", "train")]
    columns = [f"{images} together" for images in (1, 2, 4, 8)]
    losses = [[numbers(row, *columns) for row in rows] for rows in splits]
    names = [f"small_voc_{name}_seed0/last.npz" for name in (*(f"ranking-batch_{n}" for n in (1, 2, 4)), "ap")]
    assert all([row["checkpoint"] for row in rows] == names for rows in splits)
    cells = table("| trained with rankings of |", RESULTS)
    assert [images for images, *_ in cells] == list("1248")
    for (_, *shown), on_test, on_training in zip(cells, *losses):
        assert_shown(" | ".join(shown), [*on_test, *on_training])
    test, training = losses
    ratios = [training[0][-1] / others[-1] for others in training[1:]]
    assert_shown(" ".join(claim(r"any has ([\d.]+) to ([\d.]+) times", RESULTS)), [min(ratios), max(ratios)])
    costs = [[test[0][place] - others[place] for others in test[1:]] for place in (0, -1)]
    shown = claim(r"by ([\d.]+) with one image and by ([\d.]+) to ([\d.]+) with 8", RESULTS)
    assert_shown(" ".join(shown), [statistics.mean(costs[0]), min(costs[1]), max(costs[1])])
    assert max(costs[0]) - min(costs[0]) < 0.005
    alone = [rows[0] for rows in training]
    assert max(alone) - min(alone) < 0.01


def test_what_delta_and_interpolation_change():
    rows = means("whole/table1b.csv") | means("whole/table1c.csv")
    default, sharp = rows.pop("delta 1"), rows.pop("delta 0.25")
    assert rows.pop("interpolated true") == default == means("whole/table2.csv")["ap, VOC07"]
    papers = {row.name: row.metrics for name in ("table1b", "table1c") for row in rows_of(name, SCALES["whole"])}
    behind = [papers["delta 1"][name] - papers["delta 0.25"][name] for name in ("AP", "AP50")]
    shown = claim(r"0\.25 is last .*? by ([\d.]+) and ([\d.]+) behind the default; .*? by (.*?) and (.*?)\.\n", RESULTS)
    assert_shown(" ".join(shown), [default[0] - sharp[0], default[1] - sharp[1], *behind])
    assert all(sharp[measure] < row[measure] for row in (default, *rows.values()) for measure in (0, 1))
    shown = claim(r"other three have ([\d.]+) to ([\d.]+) AP more .*? three have ([\d.]+) to ([\d.]+) less", RESULTS)
    leads = [row[0] - default[0] for row in rows.values()]
    behind = [papers["delta 1"]["AP"] - papers[row]["AP"] for row in rows]
    assert_shown(" ".join(shown), [min(leads), max(leads), min(behind), max(behind)])
    assert_shown(claim(r"without it is ([\d.]+) ahead here", RESULTS), [rows["interpolated false"][0] - default[0]])
    report = (REPOSITORY / "results/whole/table1b.md").read_text(encoding="utf-8")
    shown = claim(r"what seeds make it vary \(([\d.]+)\)", RESULTS)
    assert shown == claim(r"Seeds make a row vary by ([\d.]+) AP", report)


def test_minutes_and_resumptions_of_trainings():
    logs = REPOSITORY.glob("results/whole/logs/*.csv")
    minutes = {path.stem: float(measured(path)[-1]["seconds"]) / 60 for path in logs}
    assert_shown(claim(r"A training took (.*?) minutes", RESULTS), [min(minutes.values()), max(minutes.values())])
    resumed = {row["run"] for row in measured("whole/resumed.csv")}
    assert resumed < set(minutes)
    shown = claim(r"of the (\d+) whose \[logs\].*? were kept, \[(\d+)\]", RESULTS)
    assert_shown(" ".join(shown), [len(minutes), len(resumed)])


def end_of(name: str, *columns: str) -> list[float]:
    """What a log of seed 0 ends with, in per cent."""
    return [100 * figure for figure in numbers(measured(f"whole/logs/small_voc_{name}_seed0.csv")[-1], *columns)]


def spread(name: str, epoch: int, seeds: tuple[int, ...]) -> float:
    """Mean spread of the positives' scores in an epoch of a row's logs."""
    rows = [row for seed in seeds for row in measured(f"whole/logs/small_voc_{name}_seed{seed}.csv")]
    return statistics.mean(float(row["score_spread"]) for row in rows if row["loss"] and int(row["epoch"]) == epoch)


def test_scores_follow_delta():
    runs = {0.25: "delta_0.25", 0.5: "delta_0.5", 1: "ap", 2: "delta_2"}
    first, last = ({delta: spread(run, epoch, (0, 1)) for delta, run in runs.items()} for epoch in (1, 16))
    assert_shown(claim(r"is in the last epoch (.*?) with δ", RESULTS), list(last.values()))
    shown = claim(r"([\d.]+) to ([\d.]+) times δ, and .*? first epoch, with ([\d.]+) to ([\d.]+)\.", RESULTS)
    ratios = [[value / delta for delta, value in of_epoch.items()] for of_epoch in (last, first)]
    assert_shown(" ".join(shown), [end for of_epoch in ratios for end in (min(of_epoch), max(of_epoch))])
    ohem = [spread("loss_ohem", epoch, (1, 2)) for epoch in (1, 16)]
    assert_shown(" ".join(claim(r"with OHEM it goes from ([\d.]+) to ([\d.]+)\.", RESULTS)), ohem)
    assert all(last[delta] < first[delta] for delta in runs)


def test_torchvision_beside():
    rows = {(row["row"], row["epoch"]): row for row in measured("whole/torchvision.csv")}
    seconds = {row["loss"]: float(row["whole step"]) for row in measured("step_torchvision.csv")}
    losses, lower = means("whole/table2.csv"), means("whole/table2_lr_0.0003.csv")
    high, low = (
        numbers(rows[f"adam, lr {rate}, backbone x 0.1", "16"], "AP", "AP50", "AP75") for rate in ("0.001", "0.0003")
    )
    (ap, focal), (ap_low, focal_low) = (
        [rows[f"{loss}, VOC07"] for loss in ("ap", "focal")] for rows in (losses, lower)
    )
    shown = [" ".join(cells[1:]) for cells in table("| RetinaNet, loss |", RESULTS)]
    assert_shown(shown[0], [0.001, 3, *ap, seconds["ap"]])
    assert_shown(shown[1], [0.0003, 1, *ap_low])
    assert_shown(shown[2], [0.001, 3, *focal, seconds["focal"]])
    assert_shown(shown[3], [0.0003, 1, *focal_low])
    assert_shown(shown[4], [0.001, 1, *high, seconds["torchvision, focal"]])
    assert_shown(shown[5], [0.0003, 1, *low])
    leads = [ours - theirs for pair in ((ap, high), (ap_low, low), (focal, high)) for ours, theirs in zip(*pair)]
    by = r"([\d.]+), ([\d.]+) and ([\d.]+)"
    shown = claim(rf"and AP75 by {by} with 0.001 and by {by} with 0.0003; .*? with 0.001, by {by}\.", RESULTS)
    assert_shown(" ".join(shown), leads)
    assert abs(low[1] - ap[1]) < 0.2
    assert_shown(claim(r"and ([\d.]+) more than our focal loss\. With", RESULTS), [low[1] - focal[1]])
    shown = claim(r"ours is ([\d.]+) behind in AP50, though level in AP and ([\d.]+) ahead in AP75", RESULTS)
    assert_shown(" ".join(shown), [low[1] - focal_low[1], focal_low[2] - low[2]])
    assert abs(low[0] - focal_low[0]) < 0.1
    lighter = end_of("loss_focal_lr_0.0003_box-loss-weight_0.25", "AP", "AP50", "AP75")
    assert_shown(claim(r"with a quarter of it, ours has \[(.*?)\]", RESULTS), lighter)
    assert all(abs(one - other) < 1 for one, other in zip(lighter, focal_low))
    per_image = end_of("loss_focal_lr_0.0003_per_image", "AP", "AP50", "AP75")
    assert_shown(claim(r"an\s+image\), it\s+has \[(.*?)\]", RESULTS), per_image)
    shown = claim(r"no longer\s+ahead in AP75, and ([\d.]+)\s+behind in AP50", RESULTS)
    assert_shown(shown, [low[1] - per_image[1]])
    assert per_image[2] < low[2]
    of_seeds = [float(row["AP50"]) for row in measured("whole/table2.csv") if row["row"] == "focal, VOC07"]
    assert_shown(claim(r"make our focal loss vary by ([\d.]+) AP50", RESULTS), [statistics.stdev(of_seeds)])
    shown = claim(r"with focal loss, makes (.*?) of the same images", README)
    assert_shown(re.sub("AP50|AP75", "", shown), [low[0], high[0], low[1], high[1], low[2], high[2]])


def test_rates_of_torchvision():
    rows = {(row["row"], row["epoch"]): row for row in measured("whole/torchvision.csv")}
    grids = {"3": means("whole/learning_rates.csv"), "8": means("whole/learning_rates_longer.csv")}
    for rate, epochs, *figures in table("| focal loss, Adam | epochs |", RESULTS):
        theirs, ours = rows[f"held out, adam, lr {rate}", epochs], grids[epochs][f"focal, adam, lr {rate}"]
        assert_shown(" ".join(figures), [*numbers(theirs, "AP", "AP50"), *ours[:2]])
    sgd = [row for (name, _), row in rows.items() if name.startswith("held out, sgd")]
    assert sorted(row["AP"] for row in sgd) == ["", "", "", "0.03"]


def test_gains_of_several_scales():
    rows = means("whole/table3.csv")
    gains = [several - one for several, one in zip(rows["ap, VOC07, multi-scale"], rows["ap, VOC07, single scale"])]
    assert_shown(claim(r"Several scales add ([\d.]+) to AP50", RESULTS), gains[1:2])
    assert_shown(claim(r"seeds make a row vary \([\d.]+\); and \[([\d.]+)\]", RESULTS), gains[:1])


def test_what_auc_loss_comes_down_to():
    ends = {}
    for path in REPOSITORY.glob("results/whole/logs/*.csv"):
        last = [row for row in measured(path) if row["epoch"] == "16" and row["ap_loss"]]
        ends[path.stem] = [statistics.mean(float(row[name]) for row in last) for name in ("cls_loss", "ap_loss")]
    auc_loss, its_rankings = ends.pop("small_voc_loss_auc_seed0")
    others = [ap_loss for name, (_, ap_loss) in ends.items() if "auc" not in name]
    assert_shown(claim(r"its loss is ([\d.]+):", RESULTS), [auc_loss])
    scores = 8 * len(make_anchors(160, 160)) * len(VOC_CLASSES)
    shown = claim(r"But of the (.*?) scores of a batch these are some (\d+)", RESULTS)
    assert_shown(" ".join(shown), [round(scores, -3), round(auc_loss * scores, -2)])
    shown = claim(r"`ap_loss`\) is still (.*?)\.\n", RESULTS)
    assert_shown(shown, [its_rankings, min(others), max(others)])


def test_order_of_the_curves():
    curves: dict[tuple[str, str], list[float]] = {}
    for row in measured("whole/figure5a.csv"):
        curves.setdefault((row["row"].partition(",")[0], row["step"]), []).append(float(row["value"]))
    mean = {key: statistics.mean(values) for key, values in curves.items()}
    for step in {step for _, step in mean}:
        assert min(mean["ap", step], mean["ohem", step]) > mean["focal", step] > mean["auc", step]
    lead = {int(step): mean["ap", step] - mean["focal", step] for loss, step in mean if loss == "ap"}
    falls = int(claim(r"Until the learning rate falls, at step (\d+), focal loss lags further", RESULTS))
    assert min(lead[step] for step in lead if step <= falls) > max(lead[step] for step in lead if step > falls)


def test_auc_loss_beside_a_lighter_box_loss():
    name = "loss_auc_box-loss-weight_0.05"
    (share,) = (row["share"] for row in measured("whole/gradient_share.csv") if name in row["checkpoint"])
    assert_shown(claim("its share at the end is (.*?),", RESULTS), [100 * float(share)])
    (plain,) = (row for row in measured("whole/table2.csv") if (row["row"], row["seed"]) == ("auc, VOC07", "0"))
    light = end_of(name, "AP", "AP50")
    shown = claim(r"it reaches ([\d.]+) AP and ([\d.]+) AP50 instead of \[(.*?)\]", RESULTS)
    assert_shown(" ".join(shown), [*light, *numbers(plain, "AP", "AP50")])


def test_auc_loss_trained_for_longer():
    log = measured("whole/logs/small_voc_loss_auc_epochs_32_seed0.csv")
    longer = end_of("loss_auc_epochs_32", "AP", "AP50")
    its_rankings = statistics.mean(float(row["ap_loss"]) for row in log if row["epoch"] == "32" and row["ap_loss"])
    shown = claim(
        r"with all else the same, it has ([\d.]+) AP and ([\d.]+) AP50 .*? an AP-loss of ([\d.]+)\.\s", RESULTS
    )
    assert_shown(" ".join(shown), [*longer, its_rankings])
    (ohem,) = (row for row in measured("whole/table2.csv") if (row["row"], row["seed"]) == ("ohem, VOC07", "0"))
    assert_shown(claim(r"It still lacks ([\d.]+) AP of OHEM's", RESULTS), [float(ohem["AP"]) - longer[0]])
    paper, ours = (load_recipe(name) for name in ("voc07_resnet50", "small_voc"))
    images = 16_551 * paper.epochs / (2000 * 16)
    shown = claim(r"with (\d+) times as many images as these 16, in (\d+) times", RESULTS)
    assert_shown(" ".join(shown), [images, images * ours.batch_size / paper.batch_size])


def test_share_of_the_losses_in_the_gradient():
    rows = [row for row in measured("whole/gradient_share.csv") if "box-loss-weight" not in row["checkpoint"]]
    start, end = (
        {row["loss"]: 100 * float(row["share"]) for row in rows if at(row["step"])}
        for at in (lambda step: step == "0", lambda step: step != "0")
    )
    in_order = ("ohem", "ap", "focal", "auc")
    assert_shown(claim(r"pyramid is at the end (.*?), and before", RESULTS), [end[loss] for loss in in_order])
    means_of_ap50 = means("whole/table2.csv")
    for figure in (end, {loss: means_of_ap50[f"{loss}, VOC07"][1] for loss in in_order}):
        assert sorted(in_order, key=figure.__getitem__, reverse=True) == list(in_order)
    assert min(start.values()) >= float(claim(r"before the first step \[(\d+) % or more", RESULTS))
