"""A run that loses a loader process says so, ends soon and whole, and resumes when it is asked to."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tiny_training import paint_shapes, running_script, tiny_flags, wait_until

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import train_voc
from aploss_mx.training.metrics_log import read_metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.parametrize(
    ("phase", "cpus"), [("training", "2"), pytest.param("evaluation", "1", marks=pytest.mark.slow)]
)
def test_the_run_ends_and_goes_on(tmp_path, phase, cpus, capsys):
    shapes = paint_shapes(tmp_path / "shapes", num_train=16, num_val=40 if phase == "evaluation" else 4)
    folder = tmp_path / "run"

    def flags(epochs: int) -> list[str]:
        settings = {"epochs": epochs, "val_interval": int(phase == "evaluation")}
        return [*tiny_flags(shapes, folder, **settings), "--num-workers", "2", "--cpus", cpus, "--resume", "auto"]

    with running_script("train_voc.py", flags(1000)) as process:
        wait_until((folder / "last.npz").exists, process)
        loaders = children_of(process.pid)
        assert len(loaders) == 2
        os.kill(loaders[1], signal.SIGKILL)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "error: loader process 1 was ended by SIGKILL, as the system does where memory runs out" in told
    assert "Traceback" not in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in loaders)
    epoch = Checkpoint.load(folder / "last.npz").epoch
    train_voc.main(flags(epoch + 1))
    assert f"resuming from {folder / 'last.npz'}, epoch {epoch}" in capsys.readouterr().out
    assert int(read_metrics(folder / "metrics.csv")[-1]["epoch"]) == epoch + 1
