"""What the process's environment says before MXNet is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tiny_training import REPOSITORY

from symbols.mxnet_setup import count_cores


def import_with(threads: str | None) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    program = "import os; from symbols.mxnet_setup import prepare; prepare(); print(os.environ['OMP_NUM_THREADS'])"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "2,", "2,0", " "])
def test_no_number_of_threads_is_told_before_anything_starts(threads):
    done = import_with(threads)
    assert done.returncode == 1
    assert done.stderr.endswith(f"OMP_NUM_THREADS must be a number of threads, at least 1, not {threads!r}\n")


def test_after_an_error_the_next_import_prepares_anew():
    program = """
import os
os.environ["OMP_NUM_THREADS"] = "two"
import aploss_mx
try:
    import mxnet
except ValueError:
    os.environ["OMP_NUM_THREADS"] = "1"
import mxnet
print(os.environ["GOMP_SPINCOUNT"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "20000\n"), done.stderr


@pytest.mark.parametrize("threads", ["1", "3", "4,2"])
def test_a_number_of_threads_is_left_alone(threads):
    assert import_with(threads).stdout == f"{threads}\n"


@pytest.mark.parametrize("threads", [None, ""])
def test_without_one_all_cores_are_used(threads):
    assert import_with(threads).stdout == f"{count_cores()}\n"
