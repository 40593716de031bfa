"""The page of a run in a browser: its numbers are those of metrics.json and pycocotools, whatever names hold."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

import numpy as np
import pandas as pd
import pytest
import yaml
from simulated import detect, paint

from aploss_mx.config import Recipe
from aploss_mx.evaluation.coco import coco_average_precision
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.evaluation.errors import Kind
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.evaluation.voc import voc_average_precision
from aploss_mx.inspection import comparison
from aploss_mx.inspection.comparison import write_comparison_page
from aploss_mx.inspection.findings import find
from aploss_mx.inspection.page import _lead, findings_of, write_run_page
from aploss_mx.inspection.plots import Plot
from aploss_mx.inspection.pngs import DPI, _draw, _size, log_images, write_pngs
from aploss_mx.inspection.run_folder import read_run, write_note
from aploss_mx.page.charts import Curve
from aploss_mx.training.metrics_log import COLUMNS

CLASSES = ("<script>alert(1)</script>", '"Bär\'s" &amp; $x_1$', "猫")
NAME = "läuft <b>\"'&猫"


def make_run(folder: Path, samples, seed: int = 0, **settings) -> Path:
    """Write what a training leaves, of simulated detections."""
    folder.mkdir(parents=True)
    detections = detect(samples, len(CLASSES), seed)
    metrics = evaluate(samples, detections, CLASSES)
    save_detections(folder / "detections.json", detections, CLASSES)
    (folder / "metrics.json").write_text(json.dumps({"epoch": 4, **metrics}))
    recipe = Recipe.from_dict({"classes": list(CLASSES), "epochs": 4, "val_split": "2007_val", **settings})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    steps = np.arange(10, 210, 10)
    log = pd.DataFrame(index=range(len(steps) + 4), columns=COLUMNS, dtype=float)
    log.loc[: len(steps) - 1, ["epoch", "step", "lr", "loss", "cls_loss", "box_loss", "ap_loss"]] = np.stack(
        [(steps - 1) // 50 + 1, steps, 0.01 + 0 * steps, 2 - steps / 200, 1 - steps / 400, 1 - steps / 400,
         1 - steps / 300], 1)  # fmt: skip
    for epoch in range(1, 5):
        log.loc[len(steps) + epoch - 1, ["epoch", "step", "AP", "AP50", "AP75"]] = [
            epoch, 50 * epoch, *(metrics[name] * epoch / 4 for name in ("AP", "AP50", "AP75"))]  # fmt: skip
    log = log.sort_values("step", kind="stable").astype({"epoch": int, "step": int})
    log.to_csv(folder / "metrics.csv", index=False)
    write_note(folder, ["aploss-mx", "train-voc", "--classes", CLASSES[1]], "VOCDetection", folder, samples, CLASSES)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    samples = paint(tmp_path_factory.mktemp("data"), 40, len(CLASSES), objects=5)
    return SimpleNamespace(name="<i>data</i>", classes=CLASSES, samples=samples, problems=[])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / NAME, data.samples)
    write_run_page(read_run(folder), data, folder / "report.html")
    return folder


def texts(browser, selector: str) -> list[str]:
    return browser.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector)


def metrics_table(browser) -> dict[str, list[str]]:
    """The cells of each row by the first one's text."""
    rows = browser.run(
        "return [...document.querySelectorAll('#metrics tbody tr')].map((row) => "
        "[...row.cells].map((cell) => cell.textContent))"
    )
    return {name: rest for name, *rest in rows}


def counts_of_kinds(browser) -> list[int]:
    """The numbers on the filters by kind, but for the first, of all."""
    return [int(re.search(r"\d+$", text.replace(",", ""))[0]) for text in texts(browser, ".kinds button")[1:]]


@pytest.mark.parametrize("width, dark", [(400, False), (1600, True)])
def test_it_loads_in_silence_fits_and_can_be_read(browser, run, width, dark):
    browser.open(run / "report.html", width, dark=dark)
    browser.settle()
    assert browser.complaints() == []
    assert browser.overflow() <= 0
    assert browser.faint_texts() == []


def test_it_prints(browser, run):
    browser.open(run / "report.html", dark=True)
    browser.settle()
    assert 2 < browser.pages() < 40
    cards = "[...document.querySelectorAll('#detections .card')].filter((card) => card.checkVisibility())"
    drawn = f"{cards}.filter((card) => card.querySelector('[data-kind]'))"
    shown, drawn = browser.run(f"return [{cards}.length, {drawn}.length]")
    assert shown == drawn > 0  # those that were never in sight, too
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not browser.run("return document.querySelector('nav').checkVisibility()")
    assert browser.faint_texts() == []
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_its_numbers_are_those_of_metrics_json_and_pycocotools(browser, run, data):
    browser.open(run / "report.html")
    metrics = json.loads((run / "metrics.json").read_text())
    findings = findings_of(read_run(run), data)
    coco = coco_average_precision(data.samples, findings.detections, CLASSES)
    for name in ("AP", "AP50", "AP75", "AR100"):
        shown = browser.text(f"[data-metric={name}]")
        assert shown == f"{100 * metrics[name]:.1f} %" == f"{100 * coco.metrics[name]:.1f} %"
    rows = browser.run(
        "return [...document.querySelectorAll('#classes tbody tr')].map((row) => "
        "[row.cells[0].textContent, ...[...row.cells].slice(1).map((cell) => +cell.dataset.value)])"
    )
    assert [row[0] for row in rows] == [*CLASSES, "all"]
    voc = voc_average_precision(data.samples, findings.detections, CLASSES)
    found, labels = findings.found, np.arange(len(CLASSES))
    ap = [*coco.ap, coco.metrics["AP"]]
    ap50 = [*coco.ap50, coco.metrics["AP50"]]
    voc07 = [*voc.eleven_point, voc.mean_eleven_point]
    for row, of, *expected in zip(rows, [*labels[:, None], labels], ap, ap50, voc07):
        shown = np.isin(found.labels, of) & (found.levels >= findings.start) & (found.kinds != Kind.IGNORED)
        right = (found.kinds[shown] == Kind.RIGHT).sum()
        count = sum((np.isin(sample.labels, of) & ~sample.difficult).sum() for sample in data.samples)
        assert row[1:] == pytest.approx([count, *expected, right / shown.sum(), right / count])
    bars = [*findings.errors.costs.values(), *(metrics[name] for name in ("APs", "APm", "APl"))]
    assert texts(browser, "#errors .bars .value") == ["–" if bar is None else f"{100 * bar:.1f}" for bar in bars]


def test_the_calibration_errors_are_those_of_metrics_json(browser, run):
    browser.open(run / "report.html")
    fitted = json.loads((run / "metrics.json").read_text())["calibration"]
    told = re.search(r"Expected calibration error: (.*) of the score, (.*) of the confidence", browser.text("#errors"))
    numbers = list(told.groups())
    assert numbers == [f"{fitted[name]:.3f}" for name in ("ECE_score", "ECE_confidence")]


def test_precision_and_recall_at_the_slider_are_those_of_the_detections(browser, run, data):
    findings = findings_of(read_run(run), data)
    found = findings.found
    browser.open(run / "report.html")
    for level in (findings.start, 0, 700):
        browser.slide(level)
        right, wrong = ((found.levels >= level) & kinds for kinds in (found.right, found.wrong))
        assert browser.text(".figures .precision") == f"{100 * right.sum() / (right | wrong).sum():.1f} %"
        assert browser.text(".figures .recall") == f"{100 * right.sum() / findings.counts.sum():.1f} %"
    curves = json.loads(browser.text("#errors figure.lines script"))
    np.testing.assert_allclose(curves["curves"][0]["y"], findings.precision[:, 0].mean(0), rtol=1e-5)


def test_hostile_names_are_shown_as_text(browser, run):
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html and "<b>猫" not in html and "<i>data" not in html
    browser.open(run / "report.html")
    assert browser.text("h1") == NAME
    assert browser.driver.title == NAME
    assert sorted(texts(browser, "#detections select.class option")[1:]) == sorted(CLASSES)
    assert "Bär's\" <b>猫&.jpg" in browser.text(".card b")
    assert CLASSES[1] in browser.text("pre").replace("'\"'\"'", "'")


def test_its_advice(browser, run):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "Still improving.</b> AP rose by" in text and "Score threshold.</b> Shown is what scores" in text
    assert "Few objects to learn from.</b>" in text


@pytest.mark.parametrize("moved", [False, True])
def test_labels_that_were_mended_since_are_measured_anew(data, tmp_path, moved):
    run = read_run(make_run(tmp_path / "run", data.samples))
    assert findings_of(run, data).metrics is run.metrics
    first, *rest = data.samples
    change = {"boxes": first.boxes + 40 * moved, "difficult": np.full(len(first.boxes), not moved)}
    mended = SimpleNamespace(**{**vars(data), "samples": [replace(first, **change), *rest]})
    findings = findings_of(run, mended)
    assert findings.metrics == evaluate(mended.samples, findings.detections, CLASSES)
    assert findings.metrics["AP"] != run.metrics["AP"]
    write_run_page(run, mended, tmp_path / "page.html")
    assert "Labels have changed.</b>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    other = read_run(make_run(tmp_path / "other", mended.samples))
    write_comparison_page(tmp_path / "two.html", [other, run], mended)
    told = re.findall("labels are not those that (.*?) was tested on", (tmp_path / "two.html").read_text("utf-8"))
    assert told == ["run"]


def test_pictures_that_teach_nothing_are_not_counted(tmp_path, data):
    empty = [replace(one, image_id=f"empty {one.image_id}", boxes=one.boxes[:0], labels=one.labels[:0],
                     difficult=one.difficult[:0]) for one in data.samples]  # fmt: skip
    write_note(tmp_path, [], "VOCDetection", tmp_path, [*data.samples, *empty], CLASSES)
    assert json.loads((tmp_path / "run.json").read_text())["train_images"] == len(data.samples)


def test_charts_of_thousands_of_classes_stay_of_a_size():
    names = [f"class {number}" for number in range(3000)]
    for plot in (
        Plot("confusion", "heat_map", {"rows": names, "columns": names}),
        Plot("errors", "bars", {"names": names}),
        Plot("confusion", "heat_map", {"rows": names[:60], "columns": names[:60]}),
    ):
        assert 4 < max(_size(plot)) * DPI <= 4500


def test_charts_as_png_and_on_tensorboard(run, data, tmp_path):
    plots = write_run_page(read_run(run), data, tmp_path / "page.html")
    files = write_pngs(tmp_path / "pngs", plots)
    assert [file.stem for file in files] == [
        "loss", "ap_loss", "ap", "lr", "errors", "sizes", "precision_recall", "reliability", "confusion",
    ]  # fmt: skip
    assert all(file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 5000 for file in files)
    log_images(tmp_path / "board", 7, plots[:2])
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    assert content.count(b"\x89PNG") == 2 and b"report/ap_loss" in content


def test_a_name_that_begins_with_a_line_is_in_the_legend():
    curves = [Curve(name, np.arange(2.0), np.arange(2.0)) for name in ("_a_b", "c")]
    figure = _draw(Plot("ap", "lines", {"title": "", "curves": curves, "x": "", "y": ""}))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [" _a_b", "c"]


@pytest.fixture(scope="module")
def two(run, data) -> Path:
    other = make_run(run.parent / "other", data.samples, seed=5, loss="focal")
    path = run.parent / "two.html"
    write_comparison_page(path, [read_run(run), read_run(other)], data)
    return path


def test_two_runs_differ_by_what_their_metrics_do(browser, two, run):
    browser.open(two, 400)
    assert browser.complaints() == [] and browser.overflow() <= 0 and browser.faint_texts() == []
    first, second = (json.loads((two.parent / name / "metrics.json").read_text()) for name in (NAME, "other"))
    table = metrics_table(browser)
    assert table["AP"] == [
        f"{100 * first['AP']:.1f} %", f"{100 * second['AP']:.1f} %", f"{100 * (second['AP'] - first['AP']):+.1f}",
    ]  # fmt: skip
    assert table["loss"] == ["ap", "focal"]


@pytest.mark.parametrize("shown", [500, 5])
def test_two_runs_find_each_object_both_one_or_neither(browser, two, run, data, monkeypatch, shown):
    """All objects are counted, however few pictures are shown."""
    if shown < len(data.samples):
        monkeypatch.setattr(comparison, "MOST_PICTURES", shown)
        monkeypatch.setattr(comparison, "FEWER", shown)
        write_comparison_page(two.with_name("few.html"), [read_run(two.parent / one) for one in (NAME, "other")], data)
        two = two.with_name("few.html")
    browser.open(two)
    assert f"{min(shown, 40)} pictures" in browser.text("p.shown")
    one, other = (findings_of(read_run(two.parent / name), data) for name in (NAME, "other"))
    counted = one.objects.counted
    first, second = (of.objects.found_at(of.start)[counted] for of in (one, other))
    kinds = (~first & ~second, first & ~second, ~first & second, first & second)
    assert counts_of_kinds(browser)[:4] == [kind.sum() for kind in kinds]
    browser.show(".card")
    card = browser.find(".card")[0]
    image = int(re.match(r"\d+", browser.text(".card b"))[0])
    here = one.objects.image[counted] == image
    alone = len(card.find_elements("css selector", "[data-kind^=only]"))
    assert alone == (first ^ second)[here].sum() == np.bincount(one.objects.image[counted], first ^ second).max()


@pytest.fixture(scope="module")
def four(run, data) -> Path:
    others = [make_run(run.parent / f"seed {seed}", data.samples, seed) for seed in (1, 2, 3)]
    path = run.parent / "four.html"
    write_comparison_page(path, [read_run(folder) for folder in (run, *others)], data)
    return path


def test_four_runs_find_each_object_all_several_one_or_none(browser, four, run, data):
    browser.open(four, 400)
    assert browser.complaints() == [] and browser.overflow() <= 0 and browser.faint_texts() == []
    names = (NAME, "seed 1", "seed 2", "seed 3")
    findings = [findings_of(read_run(four.parent / name), data) for name in names]
    counted = findings[0].objects.counted
    found = np.stack([of.objects.found_at(of.start)[counted] for of in findings])
    alone = [(found[number] & (found.sum(0) == 1)).sum() for number in range(4)]
    several = np.isin(found.sum(0), (2, 3)).sum()
    wrong = sum((of.found.wrong & (of.found.levels >= of.start)).sum() for of in findings)
    assert counts_of_kinds(browser)[:8] == [(~found.any(0)).sum(), *alone, several, found.all(0).sum(), wrong]
    metrics = [json.loads((four.parent / name / "metrics.json").read_text()) for name in names]
    assert metrics_table(browser)["AP"] == [f"{100 * of['AP']:.1f} %" for of in metrics]


def test_long_names_stay_within_the_window(browser, run, data, tmp_path):
    folders = [make_run(tmp_path / ("long_name_" * 7 + end), data.samples, seed) for seed, end in enumerate("ab")]
    write_comparison_page(tmp_path / "page.html", list(map(read_run, folders)), data)
    browser.open(tmp_path / "page.html", 400)
    browser.settle()
    assert browser.overflow() <= 0


def test_other_labels_in_another_folder_may_be_of_other_pictures(run, data, tmp_path):
    others = paint(tmp_path / "others", 40, len(CLASSES), objects=4)
    other = make_run(tmp_path / "other", others)
    write_comparison_page(tmp_path / "page.html", [read_run(run), read_run(other)], data)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"It was tested in {other}, and the first run in " in text
    note = json.loads((other / "run.json").read_text(encoding="utf-8"))
    root = json.loads((run / "run.json").read_text(encoding="utf-8"))["dataset_root"]
    for same in ({**note, "dataset_root": root}, {}):  # as earlier versions left it
        (other / "run.json").write_text(json.dumps(same))
        write_comparison_page(tmp_path / "page.html", [read_run(run), read_run(other)], data)
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "it is measured anew" in text and "It was tested in" not in text


def test_the_lead_tells_the_time_of_the_epochs_that_it_names(data):
    """Of a training that goes on after its last evaluation."""
    log = pd.DataFrame([[8, 80, 4800], [15, 141, 9000]], columns=["epoch", "step", "seconds"])
    made = SimpleNamespace(log=log, recipe=Recipe(epochs=24), note={}, metrics={"epoch": 8})
    findings = find(data.samples, {}, CLASSES)
    assert "for 8 epochs in 80 minutes." in _lead(findings, "data", made)


def test_runs_of_other_data_are_refused(run, data, tmp_path):
    other = make_run(tmp_path / "other", data.samples, val_split="2012_val")
    with pytest.raises(ValueError, match="tested on different splits"):
        write_comparison_page(tmp_path / "x.html", [read_run(run), read_run(other)], data)
    with pytest.raises(ValueError, match="was tested on .*, not on a, b, c$"):
        findings_of(read_run(run), SimpleNamespace(classes=("a", "b", "c"), samples=data.samples))


@pytest.mark.parametrize("missing", ["metrics.json", "recipe.yaml", "detections.json"])
def test_a_folder_that_is_no_run_is_told(run, tmp_path, missing):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / missing).unlink()
    with pytest.raises(ValueError, match=f"lacks {missing}"):
        read_run(copy)


def places_of(content: dict) -> Iterator[tuple[dict, str]]:
    """Yield each value of a JSON object as the object that holds it and its key."""
    for key, value in content.items():
        yield content, key
        if isinstance(value, dict):
            yield from places_of(value)


def test_values_of_another_type_are_told_or_make_no_difference(run, data, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for name in ("metrics.json", "run.json"):
        path = copy / name
        content = json.loads(path.read_text())
        for holder, key in list(places_of(content)):
            was = holder[key]
            for other in ("text", True, {"text": "text"}, ["text"]):
                holder[key] = other
                path.write_text(json.dumps(content))
                try:
                    read_run(copy)
                except ValueError as error:
                    assert str(path) in str(error)
                    holder[key] = was
        path.write_text(json.dumps(content))
    write_run_page(read_run(copy), data, tmp_path / "page.html")


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "metrics.csv"])
@pytest.mark.parametrize("content", ["[]\n[]\n", "text\n1\n", "\0\n\udcff\n"])
def test_files_of_something_else_are_told(run, tmp_path, name, content):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=re.escape(str(copy / name))):
        read_run(copy)


def test_pictures_that_cannot_be_read_are_grey_and_said_so(run, data, tmp_path):
    broken = [*data.samples]
    broken[0].image_path.with_suffix(".bak").write_bytes(broken[0].image_path.read_bytes())
    content = broken[0].image_path.read_bytes()
    broken[0].image_path.write_bytes(content[:200])
    try:
        write_run_page(read_run(run), data, tmp_path / "page.html")
    finally:
        broken[0].image_path.write_bytes(content)
    assert "The picture cannot be read." in (tmp_path / "page.html").read_text(encoding="utf-8")
