"""The cores that a container's quota leaves, and the environment that MXNet finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def test_what_is_set_for_mxnet_is_not_taken_for_given(monkeypatch):
    monkeypatch.setattr(mxnet_setup, "count_cores", lambda: 6)
    monkeypatch.setattr("aploss_mx.devices.count_cores", lambda: 6)
    monkeypatch.setattr(mxnet_setup, "variables_set", set())
    monkeypatch.setattr("aploss_mx.devices.variables_set", mxnet_setup.variables_set)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.delenv("OMP_NUM_THREADS")
    mxnet_setup.prepare()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"]) == ("6", "7")
    environment = sharing_cores(2)
    assert (environment["OMP_NUM_THREADS"], environment["GOMP_SPINCOUNT"]) == ("3", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    mxnet_setup.variables_set.clear()
    assert sharing_cores(2)["OMP_NUM_THREADS"] == "5"
