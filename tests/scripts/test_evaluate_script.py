"""evaluate.py as a user calls it: checkpoints, saved detections, and things that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from script_output import message_of, table_of

from aploss_mx.commands import evaluate, scoring
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.evaluation.detections import load_detections


def test_evaluating_a_checkpoint_gives_what_training_gave(shapes, trained, tmp_path, capsys):
    output, found = tmp_path / "reports" / "metrics.json", tmp_path / "found.json"
    data = ["--dataset-root", str(shapes), "--split", "2007_val", "--num-workers", "1"]
    flags = ["--params", str(trained / "last.npz"), "--output", str(output), "--save-detections", str(found)]
    evaluate.main([*flags, *data])
    table = table_of(capsys.readouterr().out)
    metrics = json.loads(output.read_text())
    expected = json.loads((trained / "metrics.json").read_text())
    assert expected.pop("epoch") == 1
    assert metrics == expected
    assert metrics["AP50"] > 0
    image_ids = (shapes / "VOC2007" / "ImageSets" / "Main" / "val.txt").read_text().split()
    ours, theirs = (load_detections(path, SHAPES_CLASSES, image_ids) for path in (found, trained / "detections.json"))
    for image_id in image_ids:
        np.testing.assert_array_equal(ours[image_id].boxes, theirs[image_id].boxes)

    evaluate.main(["--detections", str(found), "--classes", ",".join(SHAPES_CLASSES), *data])
    assert table_of(capsys.readouterr().out) == table


def test_workers_are_counted_from_0(capsys):
    with pytest.raises(SystemExit):  # with -1, scikit-learn takes all cores
        evaluate.main(["--params", "x", "--dataset-root", "x", "--split", "x", "--num-workers", "-1"])
    assert "--num-workers: must be at least 0, not -1" in capsys.readouterr().err


@pytest.mark.parametrize("area", ["-1", "nan"])
def test_an_area_is_counted_from_0(capsys, area):
    with pytest.raises(SystemExit):
        evaluate.main(["--params", "x", "--dataset-root", "x", "--split", "x", "--min-area", area])
    assert f"--min-area: must be at least 0, not {area}" in capsys.readouterr().err


def test_test_settings_change_what_is_found(shapes, trained, tmp_path):
    flags = ["--params", str(trained / "last.npz"), "--dataset-root", str(shapes), "--split", "2007_val"]
    evaluate.main([*flags, "--num-workers", "0", "--max-detections", "2", "--save-detections", str(tmp_path / "few")])
    assert len(json.loads((tmp_path / "few").read_text())) == 2 * 4
    assert "topk = '0'" in message_of(evaluate.main, [*flags, "--topk", "0"])


def perfect_detections(folder: Path, image_ids: list[str]) -> list[dict]:
    """Boxes of annotation files, by the layout that the script's help tells."""
    entries = []
    for image_id in image_ids:
        for element in ElementTree.parse(folder / "Annotations" / f"{image_id}.xml").getroot().iter("object"):
            xmin, ymin, xmax, ymax = (
                float(element.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
            entries.append({"image_id": image_id, "category": element.findtext("name"), "bbox": bbox, "score": 0.5})
    return entries


def test_perfect_detections_on_pascal_voc_score_1(voc, tmp_path, capsys):
    image_ids = (voc / "VOC2007" / "ImageSets" / "Main" / "tiny.txt").read_text().split()
    entries = perfect_detections(voc / "VOC2007", image_ids)
    (tmp_path / "perfect.json").write_text(json.dumps(entries))
    flags = ["--dataset-root", str(voc), "--split", "2007_tiny", "--output", str(tmp_path / "metrics.json")]
    evaluate.main(["--detections", str(tmp_path / "perfect.json"), *flags])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("AP", "AP50", "AP75", "VOC07_AP50", "VOC10_AP50"):
        assert metrics[name] == pytest.approx(1, abs=1e-9)
    present = {entry["category"] for entry in entries}
    for name, row in metrics["per_class"].items():
        if row["objects"]:
            assert name in present
            assert row["AP"] == pytest.approx(1, abs=1e-9)
        else:
            assert row["AP"] is None
    said = capsys.readouterr()
    assert " 100.0 " in table_of(said.out).splitlines()[-1]
    assert f"{len(entries)} detection(s) in {len(image_ids)} of {len(image_ids)} images" in said.out
    assert "end beyond their image" not in said.err

    # At 0.7 of the width the IoU is 0.7.
    for entry in entries:
        entry["bbox"][2] *= 0.7
    (tmp_path / "narrow.json").write_text(json.dumps(entries))
    evaluate.main(["--detections", str(tmp_path / "narrow.json"), *flags])
    narrow = json.loads((tmp_path / "metrics.json").read_text())
    assert narrow["AP50"] == pytest.approx(1, abs=1e-9)
    assert narrow["AP75"] < 0.1


def test_corners_in_place_of_widths_are_noticed(shapes, tmp_path, capsys):
    image_ids = (shapes / "VOC2007" / "ImageSets" / "Main" / "val.txt").read_text().split()
    entries = perfect_detections(shapes / "VOC2007", image_ids)
    for entry in entries:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    (tmp_path / "corners.json").write_text(json.dumps(entries))
    evaluate.main(["--detections", str(tmp_path / "corners.json"), "--dataset-root", str(shapes), "--split", "2007_val",
                   "--classes", ",".join(SHAPES_CLASSES)])  # fmt: skip
    assert "end beyond their image: is each bbox [x, y, width, height]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{", "is not a JSON file"),
        ('[{"image_id": "val_000000", "category": "disc", "bbox": [0, 0, 1, 1], "score": 1}]', "disc"),
    ],
)
def test_detections_that_cannot_be_used_are_told(shapes, tmp_path, text, told):
    path, output = tmp_path / "found.json", tmp_path / "metrics.json"
    path.write_text(text)
    flags = ["--dataset-root", shapes, "--split", "2007_val", "--classes", ",".join(SHAPES_CLASSES)]
    message = message_of(evaluate.main, ["--detections", path, "--output", output, *flags])
    assert str(path) in message
    assert told in message
    assert not output.exists()


def test_evaluate_tells_what_is_missing(shapes, trained, tmp_path):
    data = ["--dataset-root", shapes, "--split", "2007_val"]
    assert "nowhere.npz" in message_of(evaluate.main, ["--params", tmp_path / "nowhere.npz", *data])
    assert "nowhere.json" in message_of(evaluate.main, ["--detections", tmp_path / "nowhere.json", *data, "--classes",
                                                        ",".join(SHAPES_CLASSES)])  # fmt: skip
    last = ["--params", trained / "last.npz"]
    assert "GPU" in message_of(evaluate.main, [*last, *data, "--gpus", "99"])
    assert "2007_test" in message_of(evaluate.main, [*last, "--dataset-root", shapes, "--split", "2007_test"])
    reordered = message_of(evaluate.main, [*last, *data, "--classes", ",".join(SHAPES_CLASSES[::-1])])
    assert "in the same order, with --classes" in reordered


@pytest.mark.parametrize("source", [[], ["--params", "a.npz", "--detections", "b.json"]])
def test_evaluate_takes_one_source(source, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main([*source, "--dataset-root", "data", "--split", "2007_val"])
    assert end.value.code == 2
    assert "--detections" in capsys.readouterr().err


@pytest.mark.parametrize(
    "targets",
    [
        ["--output", "a", "--voc-results", "./a"],
        ["--output", "a.csv", "--reliability", "a.png"],
        ["--voc-results", "a.png", "--reliability", "a.png"],
    ],
)
def test_evaluate_writes_no_file_twice(shapes, trained, tmp_path, monkeypatch, no_work, targets):
    monkeypatch.chdir(tmp_path)
    source = ["--detections", trained / "detections.json", "--dataset-root", shapes, "--split", "2007_val"]
    assert "a.* would be written twice" in re.sub(r"a\S*", "a.*", message_of(evaluate.main, [*source, *targets]))
    assert not list(tmp_path.iterdir())


def test_the_numbers_beside_the_picture_can_be_written_or_nothing_begins(shapes, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_detections", None)
    (tmp_path / "a.csv").mkdir()
    source = ["--detections", trained / "detections.json", "--dataset-root", shapes, "--split", "2007_val"]
    assert "Is a directory" in message_of(evaluate.main, [*source, "--reliability", tmp_path / "a.png"])


def test_the_reliability_is_of_the_objects_that_the_metrics_count(shapes, trained, tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(scoring, "try_calibration", lambda samples, _: judged.append(samples) or {})
    flags = ["--detections", trained / "detections.json", "--dataset-root", shapes, "--split", "2007_val"]
    flags += ["--classes", ",".join(SHAPES_CLASSES), "--reliability", tmp_path / "a.png"]
    for least in (0, 600):
        assert "is not drawn" in message_of(evaluate.main, [*flags, "--min-area", least])
    everything, large = judged
    assert not any(sample.difficult.any() for sample in everything)
    small = [(sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1) < 600 for sample in everything]
    assert 0 < np.concatenate(small).mean() < 1
    for sample, expected in zip(large, small):
        np.testing.assert_array_equal(sample.difficult, expected)


def test_test_settings_are_of_no_use_to_saved_detections(shapes, trained, capsys):
    flags = ["--detections", str(trained / "detections.json"), "--dataset-root", str(shapes), "--split", "2007_val"]
    with pytest.raises(SystemExit) as end:
        evaluate.main([*flags, "--nms-threshold", "0.3", "--test-flip"])
    assert end.value.code == 2
    assert "test_flip, nms_threshold: test settings go with --params" in capsys.readouterr().err
