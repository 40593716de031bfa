"""A reproduction that is killed again and again ends where an uninterrupted one does."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import assert_same_arrays

from aploss_mx.checkpoint import Checkpoint

STEPS_AN_EPOCH = 8
CLOCK = ("seconds", "images_per_second")
# A smoke scale of 4 epochs of 8 steps, each in the metrics.
PROGRAM = """
import sys
from dataclasses import replace
from aploss_mx.report.plan import SCALES
from aploss_mx.commands import reproduce
reproduce.SMOKE_IMAGES = (64, 4)
settings = {**SCALES["smoke"].settings, "epochs": 4, "log_interval": 1, "num_workers": 0}
SCALES["smoke"] = replace(SCALES["smoke"], settings=settings)
reproduce.main(sys.argv[1:])
"""


def command(folder: Path) -> list[str]:
    where = ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
    return [sys.executable, "-c", PROGRAM, "table2", "--scale", "smoke", "--only", "ap", *where]


def steps_taken(metrics: Path) -> int:
    if not metrics.exists():
        return 0
    with metrics.open(newline="", encoding="utf-8") as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if row["step"]), default=0)


def curves_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's log, but for what depends on the clock."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (STEPS_AN_EPOCH + 1)
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def kill_after(step: int, folder: Path, metrics: Path) -> None:
    process = subprocess.Popen(command(folder), start_new_session=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while steps_taken(metrics) < step:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_three_times_it_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = Path("runs", "smoke", "quickstart_ap_seed0")
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL)
    for epoch in range(3):
        kill_after(epoch * STEPS_AN_EPOCH + 3, killed, killed / run / "metrics.csv")
        assert not (killed / run / "done.json").exists()
    subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
    assert (killed / run / "run.log").read_text(encoding="utf-8").count("resuming from") == 2
    assert curves_of(killed / run) == curves_of(whole / run)
    for name in ("metrics.json", "detections.json"):
        assert (killed / run / name).read_bytes() == (whole / run / name).read_bytes()
    assert_same_arrays(*(Checkpoint.load(folder / run / "last.npz").parameters for folder in (killed, whole)))
    tables = [folder / "results" / "smoke" / "table2.csv" for folder in (killed, whole)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
