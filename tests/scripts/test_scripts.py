"""What holds for every script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aploss_mx import cli

FOLDER = Path(__file__).resolve().parents[2] / "scripts"
QUICK = ("demo.py", "evaluate.py", "train_voc.py")
NO_HELP = "inference_worker.py"  # started by a script
SCRIPTS = [
    pytest.param(script, marks=() if script.name in QUICK else pytest.mark.slow)
    for pattern in ("*.py", "benchmarks/*.py") for script in sorted(FOLDER.glob(pattern)) if script.name != NO_HELP
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_of_a_process_that_has_no_old_names_of_numpy(script):
    if script.stem == "torchvision_retinanet":
        pytest.importorskip("torchvision", reason="a rival's script, for an environment of its own")
    # numpy < 1.24 warns where later ones fail, as on Python 3.12: MXNet must come after aploss_mx, which mends that.
    command = [sys.executable, "-W", "error:`np.bool`", str(script), "--help"]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.startswith("usage: ")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["scripts/theory.py", "scripts/benchmarks/loss.py", "examples/ssd.py"])
def test_no_seed_is_below_0(script):
    command = [sys.executable, str(FOLDER.parent / script), "--seed", "-1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("argument --seed: must be at least 0, not -1\n")


@pytest.mark.parametrize(
    "name", sorted(cli.COMMANDS.keys() & {one.stem.replace("_", "-") for one in FOLDER.glob("*.py")})
)
def test_the_script_of_a_command_has_the_messages_of_the_command_line(name):
    command = [sys.executable, str(FOLDER / f"{name.replace('-', '_')}.py"), "--help"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "0"}, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr[:37]) == (1, "error: OMP_NUM_THREADS must be a numb")
