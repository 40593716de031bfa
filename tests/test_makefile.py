"""Fake and real GPUs are tested in environments of their own: CUDA's packages would be loaded before the fakes."""

from __future__ import annotations

import os
import shutil
import subprocess
from fnmatch import fnmatch

import pytest
from tiny_training import REPOSITORY


def would_run(target: str, **variables: str) -> list[str]:
    """Return the last command of a target, by its words."""
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_each_kind_of_gpu_has_its_environment(tmp_path):
    folders = set()
    for kind in ("fake", "real"):
        _, python, given = would_run("test-gpu", GPUS=kind)
        assert given == kind
        folders.add(python.split("/")[0])
    assert len(folders) == 2
    (tmp_path / "cleaned").mkdir()
    for folder in folders:
        (tmp_path / folder).mkdir()
    subprocess.run(" ".join(would_run("clean")), shell=True, cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["cleaned"]
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    assert all(any(fnmatch(f"{folder}/", pattern) for pattern in ignored) for folder in folders)
