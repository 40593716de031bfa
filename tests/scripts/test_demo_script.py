"""demo.py on real photographs, and on what is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from script_output import message_of
from tiny_training import STARTED

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import demo
from aploss_mx.data.pixels import read_image
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.evaluation.detections import load_detections


@pytest.fixture
def photographs(shared_data, tmp_path) -> Path:
    """A folder with two real photographs, a text file by the name of a picture, and a file of no interest."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("dog.jpg", "eagle.jpg"):
        (folder / name).symlink_to(shared_data / "demo" / name)
    (folder / "letter.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not asked for")
    return folder


def run_demo(trained: Path, pictures: object, output: Path, *flags: object) -> None:
    demo.main(
        [str(text) for text in ("--params", trained / "last.npz", "--input", pictures, "--output", output, *flags)]
    )


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_demo_on_all_photographs(shared_data, trained, tmp_path, capsys):
    output, sheet = tmp_path / "found", tmp_path / "sheets" / "sheet.png"
    run_demo(trained, shared_data / "demo", output, "--min-score", "0.02", "--sheet", sheet)
    printed = capsys.readouterr().out
    photographs = sorted((shared_data / "demo").iterdir())
    assert len(photographs) == 10
    assert {path.name for path in output.iterdir()} == {
        "detections.json",
        *(f"{path.stem}.png" for path in photographs),
    }
    assert min(size_of(sheet)) > 100 and sheet.stat().st_size < 3e6
    found = load_detections(output / "detections.json", SHAPES_CLASSES, [path.stem for path in photographs])
    for path in photographs:
        width, height = size_of(path)
        assert size_of(output / f"{path.stem}.png") == (width, height)
        boxes = found[path.stem].boxes
        assert boxes.min(initial=0) >= 0
        assert (boxes[:, 2:] <= [width + 0.01, height + 0.01]).all()
        assert f"{path}: {int((found[path.stem].scores >= 0.02).sum())} object(s)" in printed


@pytest.mark.parametrize(
    "files, names",
    [
        (["a/dog.png", "a/cat.png"], ["dog", "cat"]),
        (["a/dog.png", "a/dog.bmp", "a/cat.png"], ["dog.png", "dog.bmp", "cat.png"]),
        (["a/dog.png", "b/dog.png", "b/cat.png"], ["a/dog.png", "b/dog.png", "b/cat.png"]),
        (["x/a/dog.png", "x/b/dog.png", "x/b/dog.bmp"], ["a/dog.png", "b/dog.png", "b/dog.bmp"]),
    ],
)
def test_demo_tells_pictures_of_one_stem_apart(trained, tmp_path, files, names):
    for number, file in enumerate(files, start=1):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (330, 330 + number)).save(tmp_path / file)
    run_demo(trained, tmp_path / "**" / "*.*", tmp_path / "found", "--min-score", "0")
    sizes = {name: size_of(tmp_path / "found" / f"{name}.png")[1] - 330 for name in names}
    assert sizes == {name: number for number, name in enumerate(names, start=1)}
    entries = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {entry["image_id"] for entry in entries} == set(names)


def test_results_stay_in_their_folder_whatever_way_leads_to_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [Path("../dog.png"), Path("dog.png"), tmp_path / "b" / "dog.png"]
    assert demo.names_of(files) == ["dog.png", f"{tmp_path.name}/dog.png", f"{tmp_path.name}/b/dog.png"]


def test_what_was_found_is_kept_where_a_later_picture_fails(trained, tmp_path, monkeypatch):
    for name in "abc":
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    predict = Detector.predict

    def fail_at_the_second(self, image):
        if (tmp_path / "found" / "a.png").exists():
            raise MemoryError("no room")
        return predict(self, image)

    monkeypatch.setattr(Detector, "predict", fail_at_the_second)
    with pytest.raises(SystemExit, match="error: no room; .* with a smaller --test-short"):
        run_demo(
            trained, tmp_path, tmp_path / "found", "--score-threshold", "0", "--sheet", tmp_path / "found" / "s.jpg"
        )
    entries = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {entry["image_id"] for entry in entries} == {"a"}
    assert (tmp_path / "found" / "s.jpg").exists()


def test_photographs_are_looked_at_and_shown_upright(trained, tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.new("RGB", (300, 90)).save(tmp_path / "portrait.jpg", exif=tags)
    run_demo(trained, tmp_path / "portrait.jpg", tmp_path / "found", "--score-threshold", "0", "--min-score", "0.5")
    assert size_of(tmp_path / "found" / "portrait.png") == (90, 300)
    found = load_detections(tmp_path / "found" / "detections.json", SHAPES_CLASSES, ["portrait"])["portrait"]
    assert found.boxes[:, 3].max() > 90 and found.boxes[:, 2].max() <= 90.01


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 2)])
def test_demo_on_pictures_of_odd_sizes(trained, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "odd.png")
    run_demo(trained, tmp_path / "odd.png", tmp_path / "found", "--min-score", "0", "--sheet", tmp_path / "sheet.png")
    assert (tmp_path / "found" / "odd.png").exists()


@pytest.mark.parametrize("encoding", ["utf-8", pytest.param("ascii", marks=pytest.mark.slow)])
def test_names_of_any_bytes_are_printed_in_any_encoding(trained, tmp_path, encoding):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in (b"caf\xe9.png", "→ \N{SNOWMAN}.png".encode(), b"\x1b[31mred.png", b"line\nbreak.png", b"late\xff.jpg"):
        if name.endswith(b"png"):
            Image.new("RGB", (40, 30)).save(pictures / "new.png")
            os.rename(pictures / "new.png", os.fsencode(pictures) + b"/" + name)
        else:
            with open(os.fsencode(pictures) + b"/" + name, "wb") as file:
                file.write(b"no picture")
    command = [sys.executable, "-m", "aploss_mx", "demo", "--params", trained / "last.npz", "--input", pictures]
    process = subprocess.run(
        [*command, "--output", tmp_path / "found", "--min-score", "0", "--sheet", tmp_path / "sheet.png"],
        env={**os.environ, "PYTHONPATH": STARTED, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert b"\x1b" not in process.stdout + process.stderr
    assert process.stdout.count(b"\n") == 7 and b"red.png: " in process.stdout and rb"line\nbreak.png" in process.stdout
    assert rb"late\udcff.jpg: cannot read the image" in process.stderr
    written = os.listdir(os.fsencode(tmp_path / "found"))
    assert len(written) == 5 and b"caf\xe9.png" in written
    entries = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {os.fsencode(entry["image_id"]) for entry in entries} >= {b"caf\xe9", b"\x1b[31mred"}


@pytest.mark.parametrize("flags", [["--output", "here"], ["--output", "there", "--sheet", "here/dog.png"]])
def test_demo_overwrites_no_photograph(shared_data, trained, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    cv2.imwrite("here/dog.png", cv2.imread(str(shared_data / "demo" / "dog.jpg")))
    before = Path("here/dog.png").read_bytes()
    with pytest.raises(SystemExit, match=r"dog\.png would be overwritten"):
        demo.main(["--params", str(trained / "last.npz"), "--input", "here", *flags])
    assert Path("here/dog.png").read_bytes() == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--output", "pictures"],  # which holds another picture, dog.png
        ["--output", "there", "--sheet", "pictures/dog.png"],
        ["--output", "there", "--sheet", "there/dog.png"],  # the annotated picture itself
        ["--output", "links"],
        ["--output", "run"],
        ["--output", "others"],
        ["--output", "unreadable"],
        ["--output", "evaluated"],
        ["--output", "alien"],
    ],
)
def test_demo_overwrites_nothing_beside_its_input(trained, tmp_path, monkeypatch, no_work, flags):
    monkeypatch.chdir(tmp_path)
    detections = {"run": "[]", "unreadable": "", "evaluated": '[{"image_id": "000001"}]', "alien": "[{}, [0], 1]"}
    pictures = ("pictures/dog.jpg", "pictures/dog.png", "links/dog.png", "others/dog.png")
    files = {path: path for path in (*pictures, "run/recipe.yaml")}
    files.update({f"{folder}/detections.json": text for folder, text in detections.items()})
    for path, text in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    Path("links/dog.jpg").symlink_to(tmp_path / "pictures" / "dog.jpg")
    pattern = "links/*.jpg" if "links" in flags else "pictures/*.jpg"
    with pytest.raises(SystemExit, match=r"(would be overwritten|keeps its).*: choose another --output"):
        demo.main(["--params", str(trained / "last.npz"), "--input", pattern, *flags])
    assert {path: Path(path).read_text() for path in files} == files


def test_a_home_of_nobody_is_told_as_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(b"")
    for flags in (["--input", "~no-such-user/a.jpg"], ["--input", "a.jpg", "--params", "~no-such-user/a.npz"]):
        assert "~no-such-user/a" in message_of(demo.main, flags)
    Path("~1.jpg").write_bytes(b"")
    assert demo.find_pictures("~1.jpg") == [Path("~1.jpg")]


@pytest.mark.parametrize("suffix", [".foo", ".pgm", ""])  # OpenCV writes .pgm in grey alone
def test_a_sheet_of_no_known_format_is_refused_at_once(shared_data, tmp_path, no_work, suffix):
    with pytest.raises(SystemExit, match="no picture format"):
        run_demo(tmp_path, shared_data / "demo", tmp_path / "found", "--sheet", tmp_path / f"sheet{suffix}")
    assert not (tmp_path / "found").exists()


def test_demo_on_a_file_draws_what_scores_enough(shared_data, trained, tmp_path):
    photograph = shared_data / "demo" / "dog.jpg"
    for _ in range(2):  # it may replace what it wrote itself
        run_demo(trained, photograph, tmp_path / "none", "--min-score", "1")
    run_demo(trained, photograph, tmp_path / "all", "--min-score", "0")
    none, drawn = (cv2.imread(str(tmp_path / name / "dog.png")) for name in ("none", "all"))
    np.testing.assert_array_equal(none, cv2.imread(str(photograph)))
    assert (drawn != none).any()
    texts = [(tmp_path / name / "detections.json").read_text() for name in ("none", "all")]
    assert texts[0] == texts[1] != "[]"


def test_demo_draws_by_default_what_scores_as_at_the_best_f1(shapes, trained, folder, capsys):
    picture = min((shapes / "VOC2007" / "JPEGImages").iterdir())
    scores = np.sort(Detector.load(trained / "last.npz").predict(read_image(picture)).scores)
    best = float(scores[len(scores) // 2])
    replace(Checkpoint.load(trained / "last.npz"), best_f1_score=best).save(folder / "last.npz")
    run_demo(folder, picture, folder / "default")
    shown = (scores >= best).sum()
    assert 0 < shown < len(scores)
    assert f": {shown} object(s) with a score of {best:.3g} or more" in capsys.readouterr().out
    run_demo(folder, picture, folder / "given", "--min-score", best)
    default, given = ((folder / name / f"{picture.stem}.png").read_bytes() for name in ("default", "given"))
    assert default == given


def test_a_threshold_may_be_of_confidences(shapes, trained, folder, capsys):
    picture = min((shapes / "VOC2007" / "JPEGImages").iterdir())
    replace(Checkpoint.load(trained / "last.npz"), calibration=(2.0, 3.0)).save(folder / "last.npz")
    confidences = np.sort(Detector.load(folder / "last.npz").predict(picture).confidence)
    least = float(confidences[len(confidences) // 2 : len(confidences) // 2 + 2].mean())
    told = f": {(confidences >= least).sum()} object(s) with a confidence of {least:.3g} or more"
    run_demo(folder, picture, folder / "found", "--min-confidence", least)
    assert told in capsys.readouterr().out
    score = Calibration(2.0, 3.0).score(least)
    replace(Checkpoint.load(folder / "last.npz"), best_f1_score=score).save(folder / "last.npz")
    run_demo(folder, picture, folder / "default")
    assert told in capsys.readouterr().out
    run_demo(folder, picture, folder / "scores", "--min-score", score)
    assert f" with a score of {score:.3g} or more" in capsys.readouterr().out


def test_a_threshold_of_confidences_wants_a_detector_that_has_some(shapes, trained, folder):
    replace(Checkpoint.load(trained / "last.npz"), calibration=None).save(folder / "last.npz")
    picture = min((shapes / "VOC2007" / "JPEGImages").iterdir())
    with pytest.raises(SystemExit, match="was not calibrated"):
        run_demo(folder, picture, folder / "found", "--min-confidence", "0.5")


@pytest.mark.parametrize("flag", ["--min-score", "--min-confidence"])
@pytest.mark.parametrize("bad", ["50", "-0.1", "nan"])
def test_thresholds_lie_in_0_to_1(flag, bad, capsys):
    with pytest.raises(SystemExit):
        demo.main(["--input", "photo.jpg", flag, bad])
    assert f"argument {flag}: must lie in 0 … 1, not {bad}" in capsys.readouterr().err


@pytest.mark.parametrize("dog", ["{folder}/dog.jpg", "dog.jpg", "{folder}/../photographs/dog.jpg"])
def test_inputs_may_be_several(photographs, trained, tmp_path, monkeypatch, dog):
    monkeypatch.chdir(photographs)
    demo.main(["--params", str(trained / "last.npz"), "--output", str(tmp_path / "found"), "--input",
               dog.format(folder=photographs), str(photographs / "*.jpg")])  # fmt: skip
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {entry["image_id"] for entry in found} == {"dog", "eagle"}


@pytest.mark.parametrize("pattern", ["", "*.jpg", "**/*g*.jpg"], ids=["folder", "glob", "recursive glob"])
def test_demo_leaves_out_what_is_no_picture(photographs, trained, tmp_path, capsys, pattern):
    run_demo(trained, photographs / pattern, tmp_path / "found")
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {"detections.json", "dog.png", "eagle.png"}
    assert not (tmp_path / "found" / "letter.png").exists()
    assert not (tmp_path / "found" / "notes.png").exists()
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == (pattern != "**/*g*.jpg")
    assert all(str(photographs / "letter.jpg") in line for line in left_out)


def test_demo_ends_with_an_error_where_nothing_is_a_picture(tmp_path, trained, capsys):
    (tmp_path / "letter.jpg").write_text("no picture")
    flags = ["--params", trained / "last.npz", "--output", tmp_path / "found", "--input", tmp_path / "letter.jpg"]
    assert "none of the 1 file(s)" in message_of(demo.main, flags)
    assert f"left out: {tmp_path / 'letter.jpg'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ("", "--input is empty"),
        ("empty", "--input empty: no pictures in this folder itself"),
        ("nowhere.jpg", "--input nowhere.jpg: no such file"),
        ("nowhere/*.jpg", "--input nowhere/*.jpg: no such file"),
    ],
)
def test_demo_tells_where_there_are_no_pictures(tmp_path, monkeypatch, no_work, pictures, told):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert told in message_of(demo.main, ["--input", pictures, "--output", "found"])
    assert not Path("found").exists()


def test_demo_tells_what_else_cannot_be_used(tmp_path, trained):
    Image.new("RGB", (40, 30)).save(tmp_path / "black.png")
    (tmp_path / "file").write_text("")
    picture = ["--input", tmp_path / "black.png"]
    last = ["--params", trained / "last.npz"]
    assert "nowhere.npz" in message_of(demo.main, ["--params", tmp_path / "nowhere.npz", *picture])
    assert "file is damaged or no checkpoint" in message_of(demo.main, ["--params", tmp_path / "file", *picture])
    assert "--gpus 99" in message_of(demo.main, [*last, *picture, "--gpus", "99"])


def test_demo_takes_pictures_of_all_modes(tmp_path, trained):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        suffix = "tif" if mode in ("CMYK", "I;16") else "png"
        Image.new(mode, (50, 33)).save(pictures / f"{mode.replace(';', '')}.{suffix}")
    run_demo(trained, pictures, tmp_path / "found")
    assert len(list((tmp_path / "found").glob("*.png"))) == 6
