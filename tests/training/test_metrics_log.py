"""The metrics file and its TensorBoard twin: what is written, what a resumed run keeps, and files cut off."""

from __future__ import annotations

import csv
import resource
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from aploss_mx.training.metrics_log import COLUMNS, MetricsLog, read_metrics

STEP = {"epoch": 0, "seconds": 1.5, "lr": 0.001, "loss": 1.25, "cls_loss": 0.75, "box_loss": 0.5}


def write_steps(folder: Path, first: int, last: int, resumed: int = 0) -> Path:
    log = MetricsLog(folder, resumed)
    for step in range(first, last + 1):
        log.write({**STEP, "step": step, "images_per_second": 2.0 * step})
    log.close()
    return log.path


def steps(rows) -> list[int]:
    return [int(row["step"]) for row in rows]


def events(folder: Path) -> list[Event]:
    """Read TensorBoard's files: length (8 bytes), its checksum (4), an event, its checksum (4), and so on."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            found.append(Event.FromString(content[start + 12 : start + 12 + length]))
            start += 12 + length + 4
    return found


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    return [(event.step, value.tag, value.simple_value) for event in events(folder) for value in event.summary.value]


def test_rows_have_all_columns_and_nothing_else(tmp_path):
    log = MetricsLog(tmp_path)
    log.write({**STEP, "step": 7})
    log.write({"epoch": 1, "step": 7, "AP": 0.25, "AP75": None, "per_class": {"cat": 1}, "AR100": 0.5})
    log.close()
    assert log.path == tmp_path / "metrics.csv"
    with open(log.path, newline="") as file:
        training, evaluation = csv.DictReader(file)
    assert list(training) == list(evaluation) == list(COLUMNS)
    assert training == {**dict.fromkeys(COLUMNS, ""), **{name: str(value) for name, value in STEP.items()}, "step": "7"}
    assert evaluation == {**dict.fromkeys(COLUMNS, ""), "epoch": "1", "step": "7", "AP": "0.25"}
    assert read_metrics(log.path) == [training, evaluation]


@pytest.mark.parametrize("full", ["metrics.csv", "tensorboard"])
def test_a_full_disk_is_told_with_the_files_name_and_nobody_waits(tmp_path, full):
    """TensorBoard's own writer would stop writing and then wait for itself."""
    log = MetricsLog(tmp_path)
    if full == "metrics.csv":
        log.path.write_text("x" * 2000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # for tests what a full disk is for users
    try:
        with pytest.raises(OSError, match=f"File too large: '.*{full}'"):
            for step in range(1, 100):
                log.write({**STEP, "step": step})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_rows_are_in_the_file_at_once(tmp_path):
    log = MetricsLog(tmp_path)
    assert read_metrics(log.path) == []
    for step in (1, 2):
        log.write({**STEP, "step": step})
        assert steps(read_metrics(log.path)) == list(range(1, step + 1))
        assert {at for at, *_ in scalars(tmp_path)} == set(range(1, step + 1))
    log.close()


def test_tensorboard_has_the_same_figures(tmp_path):
    write_steps(tmp_path, 1, 2)
    expected = [
        (step, tag, pytest.approx(value))
        for step in (1, 2)
        for tag, value in {**STEP, "images_per_second": 2.0 * step}.items()
        if tag != "epoch"
    ]
    assert sorted(scalars(tmp_path)) == sorted(expected)


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_rows_beyond_the_resumed_step_are_dropped_once_they_come_again(tmp_path):
    path = write_steps(tmp_path, 1, 9)
    rows = path.read_text()
    MetricsLog(tmp_path, 6).close()
    assert path.read_text() == rows  # who resumes from a later checkpoint after all has lost none
    write_steps(tmp_path, 7, 8, resumed=6)
    assert steps(read_metrics(path)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_an_evaluation_at_the_resumed_step_is_kept(tmp_path):
    path = write_steps(tmp_path, 1, 6)
    log = MetricsLog(tmp_path, 6)
    log.write({"epoch": 1, "step": 6, "AP": 0.5})
    log.close()
    MetricsLog(tmp_path, 6).close()
    assert [row["AP"] for row in read_metrics(path)] == ["", "", "", "", "", "", "0.5"]


def test_evaluations_by_another_test_go_and_a_copy_stays(tmp_path):
    path = write_steps(tmp_path, 1, 2)
    for kept in ("metrics_before.csv", "metrics_before_2.csv"):
        log = MetricsLog(tmp_path, 2)
        log.write({"epoch": 1, "step": 2, "AP": 0.5})
        log.close()
        before = path.read_bytes()
        log = MetricsLog(tmp_path, 2, other_test=True)
        assert not log.evaluated and path.read_bytes() == before
        log.write({"epoch": 1, "step": 2, "AP": 0.25})
        log.close()
        assert [(row["step"], row["AP"]) for row in read_metrics(path)] == [("1", ""), ("2", ""), ("2", "0.25")]
        assert (tmp_path / kept).read_bytes() == before


def test_a_log_without_evaluations_needs_no_copy_for_another_test(tmp_path):
    path = write_steps(tmp_path, 1, 2)
    log = MetricsLog(tmp_path, 2, other_test=True)
    log.write({"epoch": 1, "step": 2, "AP": 0.25})
    log.close()
    assert steps(read_metrics(path)) == [1, 2, 2]
    assert not list(tmp_path.glob("metrics_*"))


def test_tensorboard_is_told_to_forget_the_steps_that_come_again(tmp_path):
    write_steps(tmp_path, 1, 9)
    write_steps(tmp_path, 7, 8, resumed=6)
    restarts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert restarts[-1] == 7


def test_a_new_run_starts_a_new_file(tmp_path):
    path = write_steps(tmp_path, 1, 9)
    write_steps(tmp_path, 1, 2)
    assert steps(read_metrics(path)) == [1, 2]


def test_a_run_that_goes_on_in_a_new_folder_has_a_file_with_a_header(tmp_path):
    path = write_steps(tmp_path, 7, 8, resumed=6)
    assert steps(read_metrics(path)) == [7, 8]


def test_a_half_written_last_line_is_no_row(tmp_path):
    path = write_steps(tmp_path, 118, 125)
    rows, content = read_metrics(path), path.read_bytes()
    last = len(content.splitlines(keepends=True)[-1])
    wrong = {}
    for missing in range(1, last):
        path.write_bytes(content[:-missing])
        whole = rows if missing <= len(b"\r\n") else rows[:-1]  # a line may do without its end
        if read_metrics(path) not in (whole, rows[:-1]):
            wrong[content[-last:-missing].decode()] = read_metrics(path)[-1]
    assert not wrong


@pytest.mark.parametrize("rest", ["", "0", "0,", "0,12", "0,125", "0,125,1.5,0.0"])
def test_a_run_goes_on_after_a_half_written_line(tmp_path, rest):
    path = write_steps(tmp_path, 118, 124)
    path.write_bytes(path.read_bytes() + rest.encode())
    write_steps(tmp_path, 122, 126, resumed=121)
    assert steps(read_metrics(path)) == list(range(118, 127))
