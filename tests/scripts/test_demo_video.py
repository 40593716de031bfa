"""The demo on a film: every frame annotated, a line of JSON each, and whole as far as it goes when it is stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tiny_training import running_script, wait_until

from aploss_mx.commands import demo, video
from aploss_mx.commands.video import is_video
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.film import Film

FRAMES, RATE = 12, 10


def make_film(path: Path, frames: int = FRAMES) -> Path:
    """A film of a square that moves over a painted ground."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (96, 64))
    for number in range(frames):
        frame = np.full((64, 96, 3), (90, 140, 60), np.uint8)
        cv2.rectangle(frame, (number % 60, 20), (number % 60 + 24, 44), (30, 30, 220), -1)
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        read, frame = capture.read()
        if not read:
            return frames
        frames.append(frame)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("every", [1, 5])
def test_a_film(trained, tmp_path, every):
    film = make_film(tmp_path / "film.mp4")
    (tmp_path / "out").mkdir()
    flags = ["--params", str(trained / "last.npz"), "--input", str(film), "--output", str(tmp_path / "out")]
    demo.main([*flags, "--every", str(every), "--min-score", "0"])
    written = frames_of(tmp_path / "out" / "film.mp4")
    lines = lines_of(tmp_path / "out" / "film.jsonl")
    assert len(written) == len(lines) == -(-FRAMES // every)
    assert [line["frame"] for line in lines] == list(range(0, FRAMES, every))
    assert lines[-1]["seconds"] == pytest.approx(lines[-1]["frame"] / RATE)
    assert cv2.VideoCapture(str(tmp_path / "out" / "film.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(RATE / every)
    original = cv2.resize(frames_of(film)[0], written[0].shape[1::-1])
    assert np.abs(written[0].astype(int) - original).max() > 60  # something is drawn
    assert {"category", "bbox", "score"} <= set(lines[0]["detections"][0])


def stamped(path: Path, ticks: list[int], damaged: int = -1) -> Path:
    """A film whose frames are to be seen after so many hundredths of a second, one of them damaged."""
    plain = path.with_name("plain.avi")
    writer = cv2.VideoWriter(str(plain), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 100, (96, 64))
    for number in range(len(ticks)):
        writer.write(np.full((64, 96, 3), 10 * number, np.uint8))
    writer.release()
    source = cv2.VideoCapture(str(plain), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # packets as they are
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    code = int(source.get(cv2.CAP_PROP_FOURCC))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 100, (96, 64), raw)
    for number, tick in enumerate(ticks):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, tick)
        packet = source.read()[1]
        writer.write(np.full_like(packet, 7) if number == damaged else packet)
    writer.release()
    return path


def test_films_come_one_at_a_time(capsys):
    for inputs in (["a.mp4", "b.mp4"], ["photo.jpg", "film.mp4"]):
        with pytest.raises(SystemExit, match="one film or one camera at a time"):
            demo.main(["--input", *inputs])


@pytest.mark.parametrize("damaged", [0, 2])
def test_a_damaged_frame_is_left_out_and_told(trained, tmp_path, capsys, damaged):
    """Of a film that begins with one, times count from the first frame that is whole."""
    film = stamped(tmp_path / "film.mkv", [0, 10, 20, 30, 40], damaged)
    demo.main(["--params", str(trained / "last.npz"), "--input", str(film), "--output", str(tmp_path / "out")])
    whole = [number for number in range(5) if number != damaged]
    lines = [(line["frame"], line["seconds"]) for line in lines_of(tmp_path / "out" / "film.jsonl")]
    assert lines == [(number, pytest.approx((number - whole[0]) / 10)) for number in whole]
    assert "1 frame(s) cannot be read and are left out" in capsys.readouterr().err


def test_a_film_that_changes_its_pace(trained, tmp_path):
    """As those of telephones and of screens do: times are the film's own, and the annotated one lasts as long."""
    ticks = [0, 1, 2, 3, 4, 50, 100, 200]
    film = stamped(tmp_path / "film.mkv", ticks)
    flags = ["--params", str(trained / "last.npz"), "--input", str(film), "--output", str(tmp_path / "out")]
    demo.main([*flags, "--min-score", "1"])
    lines = lines_of(tmp_path / "out" / "film.jsonl")
    assert [line["seconds"] for line in lines] == pytest.approx([tick / 100 for tick in ticks])
    capture = cv2.VideoCapture(str(tmp_path / "out" / "film.mp4"))
    written = frames_of(tmp_path / "out" / "film.mp4")
    assert (len(written) - 1) / capture.get(cv2.CAP_PROP_FPS) == pytest.approx(2, abs=0.02)
    shades = [round(frame.mean() / 10) for frame in written]
    assert [shades[tick] for tick in ticks] == list(range(len(ticks)))
    assert [shades[tick - 1] for tick in ticks[5:]] == [4, 5, 6]


@pytest.mark.parametrize(("rate", "expected"), [(119.8812, 119.88), (66.6667, 66.67), (29.97, 29.97), (240, 240)])
def test_rates_that_mpeg_4_cannot_count(tmp_path, rate, expected):
    film = Film(tmp_path / "film.mp4", rate, (96, 64))
    for number in range(5):
        film.add(np.full((64, 96, 3), 40 * number, np.uint8), number / rate)
    film.close()
    assert [round(frame.mean() / 40) for frame in frames_of(tmp_path / "film.mp4")] == [0, 1, 2, 3, 4]
    assert cv2.VideoCapture(str(tmp_path / "film.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(expected)


@pytest.mark.parametrize("seconds", [4, 100, 4000])
def test_a_film_of_few_frames_lasts_as_long(tmp_path, seconds):
    film = Film(tmp_path / "film.mp4", 1 / seconds, (96, 64))
    for number in range(3):
        film.add(np.full((64, 96, 3), 40 * number, np.uint8), seconds * number)
    film.close()
    capture = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 1 + 2 * seconds and capture.get(cv2.CAP_PROP_FPS) == 1


def test_frames_that_cannot_be_decoded_are_left_out(tmp_path, monkeypatch, capsys):
    def failing(path, make=cv2.VideoCapture):
        """A capture whose second frame is broken."""
        capture = make(path)  # kept whole: Python crashes on collecting a class derived from OpenCV's
        names = ("get", "grab", "isOpened", "release")
        retrieve = lambda: (False, None) if capture.get(cv2.CAP_PROP_POS_FRAMES) == 2 else capture.retrieve()  # noqa: E731
        return SimpleNamespace(retrieve=retrieve, **{name: getattr(capture, name) for name in names})

    detector = SimpleNamespace(classes=("one",), predict=lambda _: Detections())
    monkeypatch.setattr(video.cv2, "VideoCapture", failing)
    video.run_video(detector, str(make_film(tmp_path / "film.mp4", 3)), tmp_path / "out", 0.5)
    assert "1 frame(s) cannot be read and are left out" in capsys.readouterr().err
    assert [line["frame"] for line in lines_of(tmp_path / "out" / "film.jsonl")] == [0, 2]


def test_a_film_may_be_named_as_urls_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film = make_film(tmp_path / "2024-01-31T12:30:00.avi", 3)
    detector = SimpleNamespace(classes=("one",), predict=lambda _: Detections())
    video.run_video(detector, film.name, Path(), 0.5)
    assert len(frames_of(film.with_suffix(".mp4"))) == 3


def test_frames_that_come_too_fast_are_left_out_and_gaps_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("aploss_mx.report.film.LONGEST_STILL", 1)
    film = Film(tmp_path / "film.mp4", 10, (96, 64))
    # A jump that lasts, one wrong time stamp, and a clock that starts anew.
    for shade, seconds in enumerate([0, 0.01, 0.02, 0.1, 3600, 3600.1, 9999, 3600.3, 3600.4, 0, 0.1]):
        film.add(np.full((64, 96, 3), 20 * shade, np.uint8), seconds)
    film.close()
    shades = [round(frame.mean() / 20) for frame in frames_of(tmp_path / "film.mp4")]
    assert shades == [0, *[3] * 11, 4, *[5] * 11, 6, 7, 8, 9, 10]


def test_a_film_that_cannot_be_written_costs_no_lines(trained, tmp_path, monkeypatch):
    film, lines = make_film(tmp_path / "film.avi"), tmp_path / "out" / "film.jsonl"
    lines.parent.mkdir()
    for file in (lines, lines.with_suffix(".mp4")):
        file.write_text("of before")
    monkeypatch.setattr("aploss_mx.report.film.FORMAT", "none")
    flags = ["--params", str(trained / "last.npz"), "--input", str(film), "--output", str(lines.parent)]
    with pytest.raises(SystemExit, match="cannot write a film of 10 frames a second there"):
        demo.main(flags)
    assert lines.read_text() == "of before"


def test_ctrl_c_leaves_a_playable_film(trained, tmp_path):
    film = make_film(tmp_path / "long.mp4", 3000)
    flags = ["--params", str(trained / "last.npz"), "--input", str(film), "--output", str(tmp_path / "out")]
    lines = tmp_path / "out" / "long.jsonl"
    with running_script("demo.py", flags) as process:
        wait_until(lambda: lines.exists() and lines.stat().st_size, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this frame" in errors and "resume" not in errors
    written = frames_of(tmp_path / "out" / "long.mp4")
    assert 0 < len(written) == len(lines_of(lines)) < 3000


def test_inputs_that_are_no_film(trained, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    flags = ["--params", str(trained / "last.npz"), "--output", str(tmp_path / "out")]
    for source, message in [
        (str(tmp_path / "broken.mp4"), "OpenCV cannot open it"),
        (str(tmp_path / "nowhere.mp4"), "no such file"),
        ("99", "OpenCV cannot open it"),
    ]:
        with pytest.raises(SystemExit, match=message):
            demo.main([*flags, "--input", source])
    film = make_film(tmp_path / "film.mp4").rename(tmp_path / "caf\udce9.mp4")
    for source, output in ((film, "out"), (tmp_path / "film.avi", "caf\udce9")):
        make_film(tmp_path / "film.avi", 3)
        with pytest.raises(SystemExit, match="OpenCV takes paths of films in UTF-8 alone"):
            demo.main([*flags[:2], "--output", str(tmp_path / output), "--input", str(source)])
    film, other = make_film(tmp_path / "film.mp4"), make_film(tmp_path / "film.avi", 3)
    before = film.read_bytes()
    for folder in ("links", "out", "hard"):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "links" / "film.mp4").symlink_to(film)
    os.link(film, tmp_path / "hard" / "film.mp4")
    link = tmp_path / "links" / "film.mp4"
    for source, folder in ((film, ""), (other, ""), (link, ""), (film, "links"), (film, "hard")):
        with pytest.raises(SystemExit, match=r"film\.mp4 would be overwritten"):
            demo.main([*flags[:2], "--output", str(tmp_path / folder), "--input", str(source)])
    assert film.read_bytes() == before
    for name in ("film.mp4", "film.jsonl"):  # somebody's, elsewhere
        taken = tmp_path / name.replace(".", "-") / name
        taken.parent.mkdir()
        taken.write_text("somebody's")
        with pytest.raises(SystemExit, match=f"{name} would be overwritten"):
            demo.main([*flags[:2], "--output", str(taken.parent), "--input", str(film)])
        assert taken.read_text() == "somebody's"
    with pytest.raises(SystemExit, match="--every is of films"):
        demo.main([*flags, "--input", str(tmp_path / "photo.png"), "--every", "2"])


def test_files_and_folders_go_before_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_video("2012")
    (tmp_path / "2012").mkdir()
    assert not is_video("2012") and is_video("0")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("film.MP4", True),
        ("0", True),
        ("photo.jpg", False),
        ("films/*.mp4", True),
        ("7up", False),
        ("20240131120000", False),  # a folder of that day, mistyped
        ("²", False),
    ],
)
def test_what_is_a_film(source, expected):
    assert is_video(source) is expected
