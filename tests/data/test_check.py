"""The preflight: every kind of broken image by itself, the report's numbers, and the command line."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_images import exif
from PIL import Image
from voc_files import object_xml, write_split
from voc_files import write_image as write_image_of_voc

from aploss_mx.commands import check
from aploss_mx.commands.check import main
from aploss_mx.data.check import check_dataset, check_images
from aploss_mx.data.images import open_image
from aploss_mx.data.problems import BOX_CLIPPED, BOX_LEFT_OUT, ERROR, SHOWN_PER_KIND, WARNING, DataError, Problem
from aploss_mx.data.sample import Sample
from aploss_mx.data.voc import VOCDetection
from aploss_mx.geometry.anchors import PAPERS, AnchorShapes

WIDTH, HEIGHT = 64, 48


def write_image(path: Path, **options) -> bytes:
    """A noise image, so that half of its file holds about half of its pixels; returns the file's content."""
    pixels = np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path.read_bytes()


def sample_of(path: Path, labels=(), difficult=(), width=WIDTH, height=HEIGHT) -> Sample:
    boxes = np.tile(np.float32([0, 0, 9, 9]), (len(labels), 1)) + np.arange(len(labels))[:, None] / 100  # no two alike
    return Sample(path.stem, path, width, height, boxes, np.array(labels, np.int64), np.array(difficult, bool))


def dataset_of(*samples, classes=("cat", "dog"), problems=()):
    return SimpleNamespace(name="a data set", classes=classes, samples=list(samples), problems=list(problems))


def only_problem(path: Path, **sample) -> Problem:
    (problem,) = check_images(dataset_of(sample_of(path, **sample)))
    assert problem.file == str(path)
    return problem


# Images ------------------------------------------------------------------------------------------


def test_images_are_waited_for_together_and_told_in_order(tmp_path, monkeypatch):
    def waiting(path):
        both.wait()
        return open_image(path)

    both = threading.Barrier(2, timeout=10)  # one image by itself would wait in vain
    monkeypatch.setattr("aploss_mx.data.check.open_image", waiting)
    paths = [tmp_path / f"{name}.jpg" for name in "cdab"]
    for path in paths[::3]:
        write_image(path)
    problems = check_images(dataset_of(*map(sample_of, paths)))
    assert [(problem.kind, problem.file) for problem in problems] == [
        ("missing image", str(path)) for path in paths[1:3]
    ]


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.jpg", {"format": "PNG"}),
        ("a.jpg", {"exif": exif(1)}),
    ],
)
def test_sound_images_pass(tmp_path, name, options):
    write_image(tmp_path / name, **options)
    assert check_images(dataset_of(sample_of(tmp_path / name))) == []


def test_missing_image(tmp_path):
    problem = only_problem(tmp_path / "gone.jpg")
    assert (problem.severity, problem.kind) == (ERROR, "missing image")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_truncated_image(tmp_path, name, part):
    content = write_image(tmp_path / name)
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    problem = only_problem(tmp_path / name)
    assert (problem.severity, problem.kind) == (ERROR, "unreadable image")


@pytest.mark.parametrize(
    "content",
    [b"<html>404</html>", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"P6 60000 60000 255\n"],
    ids=["text", "no header", "signature", "pixel bomb"],
)
def test_file_that_is_no_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert only_problem(tmp_path / "a.jpg").kind == "unreadable image"


@pytest.mark.parametrize("thumbnail", [False, True])
def test_jpeg_with_zeros_at_its_end(tmp_path, thumbnail):
    tags = exif(1).tobytes() + (write_image(tmp_path / "small.jpg") if thumbnail else b"")
    content = write_image(tmp_path / "a.jpg", exif=tags)
    (tmp_path / "a.jpg").write_bytes(content[:-900] + bytes(900))
    problem = only_problem(tmp_path / "a.jpg")
    assert problem.kind in ("unfinished JPEG", "unreadable image")


@pytest.mark.parametrize("tail", [bytes(9), b"appended by a camera"])
def test_bytes_behind_a_whole_jpeg_do_no_harm(tmp_path, tail):
    content = write_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content + tail)
    assert check_images(dataset_of(sample_of(tmp_path / "a.jpg"))) == []


def test_size_mismatch_names_both_sizes(tmp_path):
    write_image(tmp_path / "a.jpg")
    problem = only_problem(tmp_path / "a.jpg", width=500, height=375)
    assert (problem.severity, problem.kind) == (ERROR, "size mismatch")
    assert "64x48" in problem.message and "500x375" in problem.message and "EXIF" not in problem.message


def test_size_mismatch_explained_by_exif_says_so(tmp_path):
    write_image(tmp_path / "a.jpg", exif=exif(6))
    problem = only_problem(tmp_path / "a.jpg", width=HEIGHT, height=WIDTH)
    assert (problem.severity, problem.kind) == (ERROR, "size mismatch")
    assert "EXIF orientation 6 explains it" in problem.message


@pytest.mark.parametrize(
    ("orientation", "kind", "advice"),
    [
        (3, "EXIF turn that the size does not tell", "drawn on the turned picture, turn the stored pixels"),
        (6, "EXIF rotation", "as stored. Better strip the tag"),
    ],
)
def test_exif_rotation_of_an_image_annotated_as_stored_is_a_warning(tmp_path, orientation, kind, advice):
    write_image(tmp_path / "a.jpg", exif=exif(orientation))
    problem = only_problem(tmp_path / "a.jpg")
    assert (problem.severity, problem.kind) == (WARNING, kind) and advice in problem.message


@pytest.mark.parametrize("mirrored", [2, 3, 4])
def test_where_one_picture_was_annotated_turned_so_were_those_that_sizes_do_not_tell(tmp_path, mirrored):
    for name, orientation in (("a", 6), ("b", mirrored), ("c", 8)):
        write_image(tmp_path / f"{name}.jpg", exif=exif(orientation))
    turned = sample_of(tmp_path / "a.jpg", width=HEIGHT, height=WIDTH)
    dataset = dataset_of(turned, sample_of(tmp_path / "b.jpg"), sample_of(tmp_path / "c.jpg"))
    Image.new("RGB", (64, 64)).save(tmp_path / "square.jpg", exif=exif(6))
    dataset.samples.append(sample_of(tmp_path / "square.jpg", width=64, height=64))
    problems = check_images(dataset)
    assert [problem.severity for problem in problems] == [ERROR, ERROR, WARNING, ERROR]
    for told in (problems[1], problems[3]):
        assert "as those of other pictures here: turn the stored pixels" in told.message


def test_swapped_size_without_exif_is_not_explained(tmp_path):
    write_image(tmp_path / "a.jpg")
    assert "EXIF" not in only_problem(tmp_path / "a.jpg", width=HEIGHT, height=WIDTH).message


# Report ------------------------------------------------------------------------------------------


def test_report_counts(tmp_path):
    path = tmp_path / "a.jpg"
    write_image(path)
    problems = [Problem(WARNING, BOX_LEFT_OUT, "a.xml", "no area"), Problem(WARNING, BOX_CLIPPED, "a.xml", "clipped")]
    report = check_dataset(
        dataset_of(
            sample_of(path, [0, 0, 1], [False, True, False]),
            sample_of(path, [1], [True]),
            sample_of(path),
            problems=problems,
        )
    )
    assert report.images == 3 and report.images_without_objects == 2
    assert report.objects == {"cat": 1, "dog": 1} and report.difficult == {"cat": 1, "dog": 1}
    assert report.boxes_left_out == 1 and report.boxes_clipped == 1
    assert report.ok and report.errors == [] and report.warnings == problems
    report.raise_if_errors()
    text = str(report)
    assert "2 images without an object that counts" in text and "1 boxes left out" in text


def test_class_that_never_counts_is_a_warning(tmp_path):
    write_image(tmp_path / "a.jpg")
    report = check_dataset(dataset_of(sample_of(tmp_path / "a.jpg", [0, 1], [False, True])))
    assert report.ok
    assert [problem.kind for problem in report.warnings] == ["class without objects"]
    assert "'dog'" in report.warnings[0].message


@pytest.mark.parametrize(
    "labels, told", [([0, 0], "repeated box: 2 cat"), ([0, 0, 1], "box of several classes: 2 cat, 1 dog")]
)
def test_objects_of_one_box_are_a_warning(tmp_path, labels, told):
    write_image(tmp_path / "a.jpg")
    sample = replace(
        sample_of(tmp_path / "a.jpg", labels, [False] * len(labels)), boxes=np.tile([1, 2, 9, 9.5], (len(labels), 1))
    )
    problem = check_dataset(dataset_of(sample)).warnings[0]
    assert f"{problem.kind}: {problem.message.rpartition(': ')[2]}" == told and "[1, 2, 9, 9.5]" in problem.message


@pytest.mark.parametrize("difficult, kinds", [([False, True], []), ([False, False], [BOX_CLIPPED])])
def test_boxes_that_only_became_equal_or_do_not_count_are_no_warning(tmp_path, difficult, kinds):
    write_image(tmp_path / "a.jpg")
    sample = replace(sample_of(tmp_path / "a.jpg", [0, 0], difficult), boxes=np.tile([1, 2, 9, 9.5], (2, 1)))
    clipped = [Problem(WARNING, kind, "a.xml", "reaches over the edge", sample.image_path) for kind in kinds]
    report = check_dataset(dataset_of(sample, classes=("cat",), problems=clipped))
    assert [problem.kind for problem in report.warnings] == kinds


@pytest.mark.parametrize("labels, difficult", [([], []), ([0], [True])])
def test_a_data_set_without_objects_is_an_error(tmp_path, labels, difficult):
    write_image(tmp_path / "a.jpg")
    report = check_dataset(dataset_of(sample_of(tmp_path / "a.jpg", labels, difficult)))
    assert [problem.kind for problem in report.errors] == ["no objects"]


def test_errors_of_annotations_and_images_come_together_and_capped(tmp_path):
    missing = [sample_of(tmp_path / f"{number}.jpg", [0], [False]) for number in range(SHOWN_PER_KIND + 3)]
    broken = Problem(ERROR, "broken annotation", "z.xml", "not readable")
    report = check_dataset(dataset_of(*missing, classes=("cat",), problems=[broken]))
    assert not report.ok and len(report.errors) == len(missing) + 1
    with pytest.raises(DataError) as caught:
        report.raise_if_errors()
    for text in (str(report), str(caught.value)):
        assert "z.xml: not readable" in text and f"missing image ({len(missing)})" in text
        assert "... and 3 more" in text and text.count(".jpg") == SHOWN_PER_KIND


def test_warnings_stop_nothing(tmp_path):
    write_image(tmp_path / "a.jpg", exif=exif(3))
    report = check_dataset(dataset_of(sample_of(tmp_path / "a.jpg", [0], [False]), classes=("cat",)))
    assert report.ok and len(report.warnings) == 1
    report.raise_if_errors()


# Command line ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """One sound image with one cell, listed in train."""
    write_image_of_voc(tmp_path, "a", object_xml("RBC", (1, 1, 9, 9)))
    write_split(tmp_path, "train", "a\n")
    return tmp_path


def run(folder: Path, *arguments: str, split: str = "train") -> int:
    return main(["--dataset-root", str(folder), "--split", split, *arguments])


def test_command_line_on_sound_data(folder, capsys):
    assert run(folder, "--classes", "RBC") == 0
    out = capsys.readouterr().out
    assert "1 images, 1 objects" in out and "errors (0)" in out and "warnings (0)" in out


def test_command_line_reads_classes_from_a_file(folder):
    (folder / "names.txt").write_text("RBC\nWBC\n")
    assert run(folder, "--classes", str(folder / "names.txt")) == 0


def test_command_line_takes_classes_sizes_and_anchors_of_a_recipe(folder, capsys, monkeypatch):
    given, report = {}, SimpleNamespace(ok=True)
    monkeypatch.setattr(check, "check_dataset", lambda _, **settings: given.update(settings) or report)
    (folder / "mine.yaml").write_text("classes: data\ndata_shape: 96\nanchor_size: 2\nanchor_ratios: [0.2, 1, 5]\n")
    recipes = AnchorShapes(size=2, ratios=(0.2, 1, 5))
    for flags, size, anchors in (
        ([], 96, recipes),
        (["--data-shape", "64", "--anchor-ratios", "1,3"], 64, recipes._replace(ratios=(1, 3))),
    ):
        assert run(folder, "--recipe", str(folder / "mine.yaml"), *flags) == 0
        assert given == {"data_shape": size, "anchors": anchors}


def test_command_line_reads_the_classes_of_a_recipe(folder, capsys):
    (folder / "mine.yaml").write_text("classes: RBC,WBC\n")
    assert run(folder, "--recipe", str(folder / "mine.yaml")) == 0
    assert re.search(r"\n  WBC +0", capsys.readouterr().out)


def test_command_line_names_all_errors_at_once(folder, capsys):
    (folder / "JPEGImages" / "a.jpg").unlink()
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert all(kind in out for kind in ("missing annotation (1)", "unknown class (1)", "missing image (1)"))


def test_command_line_on_a_missing_split(folder, capsys):
    assert run(folder, split="2007_test") == 1
    err = capsys.readouterr().err
    assert "missing split" in err and "splits there: train" in err


@pytest.mark.parametrize("arguments", [["--classes", "RBC,RBC"], ["--classes", ""], ["--clases", "RBC"]])
def test_command_line_misuse(folder, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(folder, *arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


# Real data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder, splits, options, left_out",
    [
        ("VOCdevkit", "2007_val", {}, 0),
        ("bccd", "trainval", {"classes": ("RBC", "WBC", "Platelets")}, 2),
    ],
)
def test_real_data_is_fit_for_training(shared_data, folder, splits, options, left_out):
    report = check_dataset(VOCDetection(shared_data / folder, splits, **options))
    assert report.ok, str(report)
    assert report.boxes_left_out == left_out


@pytest.mark.parametrize(
    ("objects", "max_detections", "told"),
    [(5, None, False), (5, 5, False), (6, 5, True), (100, 300, False), (101, 300, True)],
)
def test_more_objects_than_detections_are_told(tmp_path, objects, max_detections, told):
    sample = sample_of(tmp_path / "a.jpg", [0] * (objects + 1), [False] * objects + [True])
    problems = check_dataset(dataset_of(sample, classes=("cat",)), max_detections=max_detections).warnings
    messages = [problem.message for problem in problems if problem.kind == "more objects than detections"]
    assert len(messages) == told
    assert all(f"{objects} objects" in message and "AP cannot reach 1" in message for message in messages)


def test_what_no_anchor_covers_is_told(shared_data):
    """BCCD's platelets are small: 47 % of them are below an IoU of 0.5 with every anchor at 320 px."""
    dataset = VOCDetection(shared_data / "bccd", "train", ("RBC", "WBC", "Platelets"))
    report = check_dataset(dataset, data_shape=320)
    assert report.uncovered["Platelets"] == pytest.approx(0.469, abs=0.001)
    assert report.uncovered["RBC"] < 0.01
    (warning,) = (problem for problem in report.warnings if problem.kind == "class that anchors hardly cover")
    assert "47% of 'Platelets'" in warning.message
    assert "--data-shape" in warning.message
    assert "uncovered" in str(report)
    larger = check_dataset(dataset, data_shape=640)
    assert larger.uncovered["Platelets"] < 0.1
    assert "hardly cover" not in str(larger)
    assert check_dataset(dataset).uncovered is None


@pytest.mark.parametrize(("anchors", "uncovered"), [(PAPERS, 1), (AnchorShapes(ratios=(1 / 6, 1, 6)), 0)])
def test_the_anchors_are_those_that_are_given(tmp_path, anchors, uncovered):
    sample = sample_of(tmp_path / "a.jpg", [0], [False])
    flat = replace(sample, boxes=np.float32([[0, 17, WIDTH, 26]]))
    report = check_dataset(dataset_of(flat, classes=("cat",)), data_shape=64, anchors=anchors)
    assert report.uncovered == {"cat": uncovered}
