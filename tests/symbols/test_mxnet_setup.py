"""The cores that a container's quota leaves, and the process and its environment as MXNet finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import REPOSITORY

from aploss_mx.devices import sharing_cores
from symbols import mxnet_setup
from symbols.mxnet_setup import count_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root: Path, groups: str, **quotas: str) -> Path:
    """A machine's folder, with what the process's control groups are and files of quotas by path."""
    files = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{path}": text for path, text in quotas.items()}}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


V1 = "12:pids:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab"


@pytest.mark.parametrize(
    ("groups", "quotas", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/", {"cpu.max": ""}, 8),
        # The quota of a group above holds as well.
        ("0::/pod/mine", {"pod/cpu.max": "300000 100000", "pod/mine/cpu.max": "max 100000"}, 3),
        ("0::/pod/mine", {"pod/cpu.max": "300000 100000", "pod/mine/cpu.max": "200000 100000"}, 2),
        ("0::/../other", {"cpu.max": "300000 100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        # Docker mounts a container's own group where the root of all groups is named.
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "50000", "cpu/docker/ab/cpu.cfs_period_us": "25000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "200000"}, 8),
        # Both versions at once, with the CPU in the first.
        (f"{V1}\n0::/", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_quotas(tmp_path, groups, quotas, cores):
    assert count_cores(system(tmp_path, groups, **quotas)) == cores


def test_a_system_without_control_groups(tmp_path):
    assert count_cores(tmp_path) == 8


@pytest.fixture
def prepare(monkeypatch):
    """`prepare` with a number of threads in the environment, or none; returns what it leaves there."""
    monkeypatch.setattr(mxnet_setup, "variables_set", set())
    monkeypatch.setattr("aploss_mx.devices.variables_set", mxnet_setup.variables_set)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")

    def prepare_with(threads: str | None) -> str:
        if threads is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
        mxnet_setup.prepare()
        return os.environ["OMP_NUM_THREADS"]

    return prepare_with


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "2,", "2,0", " "])
def test_what_is_no_number_of_threads_is_told(threads, prepare):
    with pytest.raises(ValueError, match=f"must be a number of threads, at least 1, not '{threads}'$"):
        prepare(threads)


@pytest.mark.parametrize(("given", "threads"), [("1", "1"), ("3", "3"), ("4,2", "4,2"), (None, "8"), ("", "8")])
def test_a_number_of_threads_is_left_alone_and_without_one_all_cores_are_used(given, threads, prepare):
    assert prepare(given) == threads


def test_what_is_set_for_mxnet_is_not_taken_for_given(prepare, monkeypatch):
    assert (prepare(None), os.environ["GOMP_SPINCOUNT"]) == ("8", "7")
    environment = sharing_cores(2)
    assert (environment["OMP_NUM_THREADS"], environment["GOMP_SPINCOUNT"]) == ("4", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    mxnet_setup.variables_set.clear()
    assert sharing_cores(2)["OMP_NUM_THREADS"] == "5"


def test_only_an_import_prepares_and_after_an_error_the_next_one_does_so_anew():
    program = """
import importlib.util, os, sys
os.environ["OMP_NUM_THREADS"] = "two"
import aploss_mx
assert importlib.util.find_spec("mxnet")
try:
    import mxnet
except ValueError:
    os.environ["OMP_NUM_THREADS"] = "1"
import mxnet
print(os.environ["GOMP_SPINCOUNT"], "aploss_mx.losses" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "20000 True\n"), done.stderr
