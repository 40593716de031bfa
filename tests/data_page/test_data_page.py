"""The page of a data set: every problem with its picture, the report's numbers, and pictures as training sees them."""

from __future__ import annotations

import base64
import html as entities
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty_data import CLASSES, STEM, WITHOUT_PICTURE, faulty_coco, faulty_voc, paint

from aploss_mx.commands.check import main
from aploss_mx.config import Recipe
from aploss_mx.data import check, clip, coco, coco_file, problems, voc, voc_annotations, voc_splits
from aploss_mx.data.check import check_dataset
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.examples import Draw, training_example
from aploss_mx.data.objects import counted_objects
from aploss_mx.data.pixels import PIXELS, denormalize, normalize, read_image
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.data_page.examples import MOST_EXAMPLES, choose_examples, training_picture
from aploss_mx.data_page.page import write_data_page
from aploss_mx.data_page.problems import with_room
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.page.gallery import FRACTIONS

RECIPE = Recipe().override(data_shape=128)


def write(root: Path, split: str, path: Path, classes="data", recipe: Recipe = RECIPE):
    dataset = open_dataset(root, split, classes, strict=False)
    report = check_dataset(dataset, data_shape=recipe.data_shape, anchors=recipe.anchors)
    write_data_page(path, dataset, report, recipe)
    return path.read_text(encoding="utf-8"), dataset, report


def galleries(text: str) -> list[dict]:
    """The data of the galleries in a part of a page."""
    parts = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    return [data for data in map(json.loads, parts) if "pictures" in data]


def boxes_of(gallery: dict) -> np.ndarray:
    packed = gallery["boxes"]["xyxy"]
    return np.frombuffer(base64.b64decode(packed["data"]), np.uint16).reshape(-1, 4) / FRACTIONS


def by_kind(page: str) -> dict[str, str]:
    """The part of a page on each kind of problem."""
    return {
        entities.unescape(kind): part
        for kind, part in re.findall(r'<article [^>]*data-kind="(.*?)">(.*?)</article>', page, re.S)
    }


def table_of(page: str) -> dict[str, list[str]]:
    rows = re.findall(r'<tr[^>]*>\s*<th scope="row">(.*?)</th>(.*?)</tr>', page, re.S)
    return {entities.unescape(name): re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in rows}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of faulty data in both layouts, with the data sets and their reports."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "voc": write(faulty_voc(folder / "voc"), "2007_train+2012_train", folder / "voc.html", CLASSES),
        "coco": write(faulty_coco(folder / "coco"), "a+b", folder / "coco.html", [*CLASSES, "nowhere"]),
    }


def known_kinds() -> set[str]:
    """Kinds of problem that are collected, not those that end the reading at once."""
    kinds = {problems.BOX_LEFT_OUT, problems.BOX_CLIPPED, problems.BOX_BELOW_PIXEL,
             problems.AREA_FROM_BOX, problems.NOT_TRAINED}  # fmt: skip
    for module in (check, clip, coco, coco_file, voc, voc_annotations, voc_splits):
        source = Path(module.__file__).read_text(encoding="utf-8")
        source = re.sub(r"DataError\(\[Problem\(.*", "", source)
        kinds |= set(re.findall(r'Problem\(\s*(?:ERROR|WARNING|severity),\s*"([^"]+)"', source))
    return kinds


def test_every_kind_of_problem_is_there_with_its_picture(pages):
    # Of training's own check, of a data set without any object, and read as one file.
    not_here = {"more objects than detections", "no objects"}
    told = [(kind, part) for page, _, _ in pages.values() for kind, part in by_kind(page).items()]
    assert {kind for kind, _ in told} >= known_kinds() - not_here
    for kind, part in told:
        shown = galleries(part)
        assert bool(shown) == (kind not in WITHOUT_PICTURE), kind
        for gallery in shown:
            assert all(picture["source"].startswith("data:image/webp") for picture in gallery["pictures"])


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_problems_of_a_kind_are_all_counted_and_told(pages, name):
    page, _, report = pages[name]
    parts = by_kind(page)
    assert set(parts) == {problem.kind for problem in report.problems}
    for problem in report.problems:
        assert problem.message in entities.unescape(parts[problem.kind])
    assert "Training cannot start" in page and f"{len(report.errors)} errors must be mended" in page


def test_the_box_in_question_is_the_one_that_is_drawn(pages):
    part = by_kind(pages["voc"][0])["class that anchors hardly cover"]
    (gallery,) = galleries(part)
    np.testing.assert_allclose(boxes_of(gallery), [[2 / 64, 2 / 48, 60 / 64, 5 / 48]], atol=1e-4)
    (gallery,) = galleries(by_kind(pages["coco"][0])["unknown class"])
    np.testing.assert_allclose(boxes_of(gallery), [[5 / 64, 5 / 48, 15 / 64, 15 / 48]], atol=1e-4)
    (gallery,) = galleries(by_kind(pages["voc"][0])["size mismatch"])  # drawn where its pixels are
    np.testing.assert_allclose(boxes_of(gallery), [[4 / 64, 4 / 48, 1, 1]], atol=1e-4)


@pytest.mark.parametrize(
    "box, size, corners",
    [
        ((10, 10, 20, 20), (100, 60), (10, 10, 20, 20)),
        ((90, 10, 130, 20), (134, 60), (90, 10, 130, 20)),
        ((-30, -10, 20, 20), (134, 74), (4, 4, 54, 34)),
        ((1e300, 10, np.inf, 20), (200, 60), (198, 10, 202, 20)),
        ((20, 20, 10, 10), (100, 60), (10, 10, 20, 20)),
        ((50, 30, 50, 30), (100, 60), (49, 29, 51, 31)),
    ],
)
def test_a_box_beyond_the_picture_or_without_area_is_seen(box, size, corners):
    image, drawn = with_room(np.zeros((60, 100, 3), np.uint8), np.float64(box))
    assert image.shape == (size[1], size[0], 3)
    np.testing.assert_allclose(drawn, corners)


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_numbers_are_those_of_the_report(pages, name):
    page, dataset, report = pages[name]
    tiles = dict(re.findall(r'data-metric="(\w+)">(.*?)</b>', page))
    assert tiles["images"] == f"{report.images:,}" and tiles["classes"] == str(len(report.objects))
    assert tiles["objects"] == f"{sum(report.objects.values()):,}"
    assert tiles["difficult"] == f"{sum(report.difficult.values()):,}"
    assert tiles["empty"] == f"{report.images_without_objects:,}"
    table = table_of(page)
    assert set(table) == {*report.objects, "all"}
    for label, (one, count) in enumerate(report.objects.items()):
        objects, difficult, images, _, covered, poor = table[one]
        counted = [sample.labels[sample.trained] for sample in dataset.samples]
        assert (objects, difficult) == (f"{count:,}", f"{report.difficult[one]:,}")
        assert images == f"{sum(label in labels for labels in counted):,}"
        share = 100 * report.uncovered[one]
        assert (covered, poor) == ((f"{100 - share:.1f} %", f"{share:.1f} %") if count else ("–", "–"))


def test_real_platelets_are_hardly_covered(shared_data, tmp_path):
    recipe = Recipe().override(data_shape=320)
    page, dataset, report = write(shared_data / "bccd", "train", tmp_path / "data.html", recipe=recipe)
    anchors = make_anchors(320, 320)
    boxes = np.concatenate(
        [sample.boxes[sample.labels == dataset.classes.index("Platelets")] * (320 / np.array([640, 480] * 2))
         for sample in dataset.samples]
    )  # fmt: skip
    poor = (pairwise_iou(boxes, anchors).max(axis=1) < 0.5).mean()
    assert round(poor, 2) == 0.47
    assert table_of(page)["Platelets"][-1] == f"{100 * poor:.1f} %" and f"Platelets {100 * poor:.1f}" in page
    assert set(by_kind(page)) == {"box left out", "class that anchors hardly cover"} and report.ok
    assert "Training can start" in page


@pytest.mark.parametrize("pixels", PIXELS)
def test_pixels_come_back(pixels):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(denormalize(normalize(image, pixels), pixels), image)


@pytest.mark.parametrize("settings", [{}, {"augmentation": "none", "pixels": "caffe"}, {"anchor_ratios": "1"}])
def test_examples_are_those_of_training(shapes, settings):
    recipe = RECIPE.override(**settings)
    dataset = open_dataset(shapes, "2007_train", "data")
    draw = Draw(0, 3, 1)
    drawn = training_picture(dataset[1], recipe, draw)
    transform = TrainTransform((128, 128), recipe.augmentation, recipe.pixels)
    image, targets, _ = training_example(dataset[1], transform, recipe.seed, recipe.anchors, draw)
    anchors = make_anchors(128, 128, recipe.anchors)
    group, label = np.array(drawn.group), np.array(drawn.label)
    np.testing.assert_array_equal(np.sort(label[group < 2]), np.sort(targets[targets > 0] - 1))
    np.testing.assert_allclose(drawn.xyxy[group < 2], np.clip(anchors[targets > 0] / 128, 0, 1), atol=1e-6)
    overlaps = pairwise_iou(drawn.xyxy[group == 2] * 128, anchors[targets > 0]).max(axis=0)
    np.testing.assert_array_equal(group[group < 2] == 1, overlaps < 0.5)
    assert f"{(targets < 0).sum():,} of {len(anchors):,}" in drawn.picture.note
    if recipe.augmentation == "none":
        np.testing.assert_allclose(denormalize(image, recipe.pixels).mean((0, 1)),
                                   read_image(dataset[1].image_path).mean((0, 1)), atol=2)  # fmt: skip


def test_objects_are_those_that_count(shapes):
    dataset = open_dataset(shapes, "2007_train", "data")
    samples = [replace(sample, difficult=np.arange(len(sample.labels)) == 0) for sample in dataset.samples]
    objects = counted_objects(samples, 64)
    rows = [
        (index, sample.labels[one], sample.boxes[one])
        for index, sample in enumerate(samples)
        for one in range(1, len(sample.labels))
    ]
    assert objects.image.tolist() == [row[0] for row in rows] and objects.label.tolist() == [row[1] for row in rows]
    np.testing.assert_array_equal(objects.boxes, [row[2] for row in rows])
    sizes = np.array([[samples[image].width, samples[image].height] * 2 for image in objects.image])
    np.testing.assert_allclose(objects.warped, objects.boxes / sizes * 64)
    best = pairwise_iou(objects.warped, make_anchors(64, 64)).max(axis=1)
    np.testing.assert_allclose(objects.overlap, best, atol=1e-6)


def test_each_class_has_examples(shapes):
    dataset = open_dataset(shapes, "2007_train", "data")
    few = choose_examples(dataset.samples, len(dataset.classes), ())
    assert {label for sample in few for label in sample.labels} == set(range(len(dataset.classes)))
    unfit = str(few[0].image_path)
    assert unfit not in {
        str(sample.image_path) for sample in choose_examples(dataset.samples, len(dataset.classes), {unfit})
    }
    many = [replace(few[0], labels=few[0].labels * 0 + label) for label in range(300) for _ in range(4)]
    assert len(choose_examples(many, 300, ())) == MOST_EXAMPLES
    first = choose_examples(many[:40], 10, ())[:10]
    assert [set(sample.labels) for sample in first] == [{label} for label in range(10)]


@pytest.mark.parametrize("classes", ["data", ",".join(CLASSES)])
def test_the_command_writes_the_page_whatever_is_wrong(tmp_path, capsys, classes):
    root = faulty_voc(tmp_path / "data")
    path = tmp_path / STEM.replace("<b>", "b") / "data.html"
    arguments = ["--dataset-root", str(root), "--split", "2007_train", "--html", str(path), "--data-shape", "64"]
    assert main([*arguments, "--classes", classes]) == main([*arguments[:4], "--classes", classes]) == 1
    assert f"wrote {path}" in capsys.readouterr().out
    assert "size mismatch" in by_kind(path.read_text(encoding="utf-8")) and len(list(path.parent.iterdir())) == 1


def test_the_command_on_sound_data(shapes, tmp_path, capsys):
    arguments = ["--dataset-root", str(shapes), "--split", "2007_train", "--classes", "data", "--data-shape", "128"]
    assert main([*arguments, "--html", str(tmp_path / "data.html"), "--augmentation", "none"]) == 0
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "augmentation none" in page and "128 × 128 px" in page
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--html", str(shapes / "VOC2007" / "ImageSets" / "Main" / "train.txt")])
    assert caught.value.code == 2 and "must end in .html" in capsys.readouterr().err
    (tmp_path / "full.html").symlink_to("/dev/full")
    assert main([*arguments, "--html", str(tmp_path / "full.html")]) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_folders_that_cannot_be_read_are_told(monkeypatch, capsys):
    def closed(*_):
        raise PermissionError(13, "Permission denied", "data")

    monkeypatch.setattr("aploss_mx.commands.check.is_coco", closed)
    with pytest.raises(SystemExit):
        main(["--dataset-root", "data", "--split", "train"])
    assert "error: [Errno 13] Permission denied: 'data'" in capsys.readouterr().err


def test_data_that_cannot_be_opened_have_a_page_of_what_is_wrong(shapes, tmp_path):
    path = tmp_path / "data.html"
    assert main(["--dataset-root", str(shapes), "--split", "2007_nowhere", "--html", str(path)]) == 1
    page = path.read_text(encoding="utf-8")
    assert set(by_kind(page)) == {"missing split"} and "Training cannot start: 1 error must" in page


def test_data_without_an_object_have_a_page(tmp_path):
    paint(tmp_path / "a" / "x.jpg")
    content = {"images": [{"id": 1, "file_name": "x.jpg", "width": 64, "height": 48}], "annotations": [],
               "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text(json.dumps(content))
    page, _, _ = write(tmp_path, "a", tmp_path / "data.html")
    assert "no objects" in by_kind(page) and table_of(page)["all"] == ["0", "0", "0", "–", "–", "–"]


def test_boxes_thin_as_a_hair_are_drawn(shapes, tmp_path):
    dataset = open_dataset(shapes, "2007_train", "data")
    hairs = np.array([[9.0, 9.0, np.nextafter(9.0, 10), 40.0], [0.0, 9.0, 5e-324, 40.0]])
    dataset.samples = [replace(dataset[0], boxes=hairs, labels=np.array([0, 1]), difficult=np.zeros(2, bool))]
    report = check_dataset(dataset, data_shape=128)
    with np.errstate(all="raise", under="ignore"):
        write_data_page(tmp_path / "data.html", dataset, report, RECIPE.override(augmentation="none"))
    assert ">0.007812</text>" in (tmp_path / "data.html").read_text(encoding="utf-8")


def test_it_takes_no_mxnet(shapes, tmp_path):
    program = (
        "import sys; sys.modules['mxnet'] = None; from aploss_mx.cli import main;"
        f"sys.exit(main(['check', '--dataset-root', {str(shapes)!r}, '--split', '2007_train', '--classes', 'data',"
        f"'--data-shape', '128', '--html', {str(tmp_path / 'data.html')!r}]))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["voc", "coco"])
@pytest.mark.parametrize("width, dark", [(400, True), (1600, False)])
def test_it_is_silent_fits_and_can_be_read(browser, pages, tmp_path, name, width, dark):
    path = tmp_path / "data.html"
    path.write_text(pages[name][0], encoding="utf-8")
    browser.open(path, width, dark=dark)
    browser.settle()
    assert browser.complaints() == []
    assert browser.overflow() <= 0
    assert browser.faint_texts() == []
    assert browser.run("return [...document.images].every((one) => one.alt.length > 3)")
    assert STEM in browser.text("#examples") and CLASSES[0] in browser.text("#classes")
    browser.show("[data-kind='unknown class'] .card")
    assert len(browser.find("[data-kind='unknown class'] .card .box:not(.quiet)")) == 1


def test_anchors_are_drawn_thin_and_not_named_one_by_one(browser, pages, tmp_path):
    path = tmp_path / "data.html"
    path.write_text(pages["coco"][0], encoding="utf-8")
    browser.open(path)
    browser.show("#augmented .card")
    assert len(browser.find("#augmented .card .quiet")) > 0
    browser.find("#augmented .card button")[0].click()
    objects = len(browser.find("#augmented dialog .box:not(.quiet)"))
    assert objects == len(browser.find("#augmented dialog .caption")) == len(browser.find("#augmented dialog li")) > 0


@pytest.mark.slow
def test_the_page_of_thousands_of_images_is_small(shared_data, tmp_path):
    write(shared_data / "VOCdevkit", "2007_train+2007_train_more+2007_val", tmp_path / "data.html", "voc")
    assert (tmp_path / "data.html").stat().st_size <= 8e6
