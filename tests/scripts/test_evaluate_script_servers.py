"""evaluate.py on data in COCO layout, and on the test images of both servers, whose objects are secret."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from coco_shapes import CATEGORY_IDS, change, rename_category
from script_output import message_of

from aploss_mx.commands import evaluate
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.detection.detector import Detector


def run_evaluate(*flags: object) -> None:
    evaluate.main([*map(str, flags), "--num-workers", "0"])


def test_evaluating_a_checkpoint_gives_what_training_gave(coco, trained_on_coco, tmp_path, capsys):
    output, found, results = (tmp_path / name for name in ("metrics.json", "found.json", "results.json"))
    data = ["--dataset-root", coco, "--split", "val"]
    flags = ["--output", output, "--save-detections", found, "--coco-results", results]
    run_evaluate("--params", trained_on_coco / "last.npz", *flags, *data)
    printed = capsys.readouterr().out
    expected = json.loads((trained_on_coco / "metrics.json").read_text())
    del expected["epoch"]
    assert json.loads(output.read_text()) == expected
    assert f"COCO: AP {100 * expected['AP']:.1f}" in printed
    assert all(name in printed for name in SHAPES_CLASSES)
    assert f"wrote {found}, {results}\n" in printed and f"wrote {output}\n" in printed

    run_evaluate("--detections", found, "--min-area", "1e6", *data)
    assert "COCO: AP -" in capsys.readouterr().out  # all objects are smaller

    # The detections alone score the same, and make the same file for the server.
    run_evaluate("--detections", found, "--output", output, "--coco-results", tmp_path / "again.json", *data)
    assert json.loads(output.read_text()) == expected
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(results.read_text())


def test_detecting_without_annotations_writes_cocos_results(coco, trained_on_coco, tmp_path, capsys):
    results, found = tmp_path / "new" / "results.json", tmp_path / "found.json"
    flags = ["--dataset-root", coco, "--split", "test", "--detect-only", "--save-detections", found]
    run_evaluate("--params", trained_on_coco / "last.npz", "--coco-results", results, *flags)
    entries = json.loads(results.read_text())
    # The images are val's, on which training detected.
    expected = json.loads((trained_on_coco / "detections.json").read_text())
    named = dict(zip(SHAPES_CLASSES, CATEGORY_IDS))
    assert entries == [
        {"image_id": int(entry["image_id"]), "category_id": named[entry["category"]], "bbox": entry["bbox"],
         "score": entry["score"]}
        for entry in expected
    ]  # fmt: skip
    assert len(entries) > 0
    assert json.loads(found.read_text()) == expected
    assert "AP50" not in capsys.readouterr().out


def test_saved_detections_become_cocos_results_without_a_network(coco, trained_on_coco, tmp_path, no_work):
    results = tmp_path / "results.json"
    flags = ["--dataset-root", coco, "--split", "test", "--detect-only", "--coco-results", results]
    run_evaluate("--detections", trained_on_coco / "detections.json", *flags)
    assert len(json.loads(results.read_text())) == len(json.loads((trained_on_coco / "detections.json").read_text()))


@pytest.fixture
def voc_test(shapes, tmp_path) -> Path:
    """Images of PASCAL VOC's test of 2012 as its server's users have them: no folder of annotations."""
    root = tmp_path / "VOCdevkit"
    (root / "VOC2012" / "ImageSets" / "Main").mkdir(parents=True)
    (root / "VOC2012" / "JPEGImages").mkdir()
    for number in range(3):
        shutil.copy(
            shapes / "VOC2007" / "JPEGImages" / f"val_{number:06d}.jpg",
            root / "VOC2012" / "JPEGImages" / f"2008_{number:06d}.jpg",
        )
    (root / "VOC2012" / "ImageSets" / "Main" / "test.txt").write_text("2008_000000\n2008_000001\n2008_000002\n")
    return root


def test_detecting_without_annotations_writes_vocs_results(voc_test, trained_on_coco, tmp_path, capsys):
    results, found = tmp_path / "results.zip", tmp_path / "found.json"
    flags = ["--dataset-root", voc_test, "--split", "2012_test", "--detect-only", "--save-detections", found]
    run_evaluate("--params", trained_on_coco / "last.npz", "--voc-results", results, *flags)
    entries = json.loads(found.read_text())
    assert {entry["image_id"] for entry in entries} == {"2008_000000", "2008_000001", "2008_000002"}
    with zipfile.ZipFile(results) as archive:
        names = [f"results/VOC2012/Main/comp4_det_test_{name}.txt" for name in SHAPES_CLASSES]
        assert sorted(archive.namelist()) == sorted(names)
        for name, file in zip(SHAPES_CLASSES, names):
            rows = [line.split() for line in archive.read(file).decode().splitlines()]
            expected = [entry for entry in entries if entry["category"] == name]
            assert [row[0] for row in rows] == [entry["image_id"] for entry in expected]
            boxes = np.float64([entry["bbox"] for entry in expected]).reshape(-1, 4)
            ours = np.float64([row[2:] for row in rows]).reshape(-1, 4)
            np.testing.assert_allclose(ours[:, :2], boxes[:, :2] + 1, atol=1e-3)
            np.testing.assert_allclose(ours[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-3)
    assert "AP50" not in capsys.readouterr().out


@pytest.mark.parametrize("part", [0.5, 0.1], ids=["cut off", "without its size"])
def test_a_broken_test_image_is_told_before_detecting(voc_test, trained_on_coco, tmp_path, monkeypatch, part):
    image = voc_test / "VOC2012" / "JPEGImages" / "2008_000001.jpg"
    content = image.read_bytes()
    image.write_bytes(content[: int(part * len(content))])
    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("it detects"))
    flags = ["--dataset-root", voc_test, "--split", "2012_test", "--detect-only"]
    flags += ["--params", trained_on_coco / "last.npz", "--voc-results", tmp_path / "results.zip"]
    message = message_of(evaluate.main, flags)
    assert str(image) in message
    assert not (tmp_path / "results.zip").exists()


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_scoring_images_without_annotations_is_told(coco, voc_test, trained_on_coco, layout):
    root, split, told = (coco, "test", "--detect-only") if layout == "coco" else (voc_test, "2012_test", "Annotations")
    flags = ["--params", trained_on_coco / "last.npz", "--dataset-root", root, "--split", split, "--num-workers", "0"]
    assert told in message_of(evaluate.main, flags)


def test_scoring_detections_without_annotations_is_told(coco, trained_on_coco, tmp_path):
    """A table of dashes would look like a result."""
    flags = ["--dataset-root", coco, "--split", "test", "--output", tmp_path / "metrics.json"]
    message_of(evaluate.main, ["--detections", trained_on_coco / "detections.json", *flags])
    assert not (tmp_path / "metrics.json").exists()


def test_classes_of_the_checkpoint_that_the_data_lack_are_told(own_coco, trained_on_coco, tmp_path):
    change(own_coco, "val", rename_category)
    flags = ["--params", trained_on_coco / "last.npz", "--dataset-root", own_coco, "--split", "val"]
    message = message_of(evaluate.main, [*flags, "--coco-results", tmp_path / "results.json"])
    assert "lacks circle" in message
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("source", ["--params", "--detections"])
@pytest.mark.parametrize(
    ("layout", "split", "flag", "told"),
    [
        ("coco", "val", "--voc-results", "--voc-results wants data in VOC layout"),
        ("voc", "2007_val", "--coco-results", "--coco-results wants data in COCO layout"),
        ("voc", "val", "--voc-results", "one --split YEAR_NAME"),
        ("voc", "2007_val+2007_train", "--voc-results", "one --split YEAR_NAME"),
    ],
)
def test_results_of_the_other_layout_are_refused_at_once(
    coco, shapes, tmp_path, no_work, source, layout, split, flag, told
):
    (tmp_path / "source").write_text("[]")
    root = coco if layout == "coco" else shapes
    flags = [source, tmp_path / "source", "--dataset-root", root, "--split", split, flag, tmp_path / "new" / "results"]
    for more in ([], ["--detect-only"]):
        assert told in message_of(evaluate.main, [*flags, *more])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flag", ["--coco-results", "--voc-results", "--output"])
def test_no_file_that_is_read_is_overwritten(coco, shapes, tmp_path, no_work, flag):
    found = tmp_path / "found.json"
    found.write_text("[]")
    root, split = (coco, "val") if flag == "--coco-results" else (shapes, "2007_val")
    flags = ["--detections", found, "--dataset-root", root, "--split", split, flag, found]
    assert "is read from" in message_of(evaluate.main, flags)
    assert found.read_text() == "[]"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--params", "a.npz", "--detect-only"], "--detect-only wants"),
        (["--params", "a.npz", "--detect-only", "--coco-results", "b", "--output", "c"], "--detect-only measures none"),
        (["--params", "a.npz", "--detect-only", "--coco-results", "b", "--min-area", "9"], "--min-area are of metrics"),
        (["--detections", "a.json", "--save-detections", "b"], "--save-detections goes with --params"),
        (["--detections", "a.json", "--gpus", "0"], "--gpus goes with --params"),
    ],
)
def test_flags_that_do_not_go_together(coco, no_work, flags, told, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main([*flags, "--dataset-root", str(coco), "--split", "val"])
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert "error: " in printed and told in printed
