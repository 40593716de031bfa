"""Two machines, made of network namespaces: where the link between them is cut or one dies, both sides end in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from tiny_training import REPOSITORY, STARTED, tiny_flags, wait_until

from aploss_mx.training.roll_call import LOST

TIMEOUT = 60
PORT = 9000
WIRE = "wire"
ADDRESSES = "10.213.77.1", "10.213.77.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Names of two namespaces with a link between them."""
    names = [f"aploss{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "name", WIRE, "netns", names[0], "type", "veth", "peer", "name", WIRE, "netns", names[1])
        for name, address in zip(names, ADDRESSES):
            ip("-n", name, "address", "add", f"{address}/24", "dev", WIRE)
            for device in ("lo", WIRE):
                ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to make network namespaces ({error})")
    else:
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def member(machine: str, role: str, command: list[str]) -> Iterator[subprocess.Popen]:
    environment = {
        **os.environ, "PYTHONPATH": STARTED, "OMP_NUM_THREADS": "1", "DMLC_ROLE": role,
        "DMLC_PS_ROOT_URI": ADDRESSES[0], "DMLC_PS_ROOT_PORT": str(PORT), "DMLC_NUM_WORKER": "2",
        "DMLC_NUM_SERVER": "1", "DMLC_INTERFACE": WIRE,
    }  # fmt: skip
    process = subprocess.Popen(
        ["ip", "netns", "exec", machine, sys.executable, *command],
        env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["the link is cut", "a worker is killed"])
def test_all_end_in_time(machines, shapes, tmp_path, fault):
    near, far = machines
    folder = tmp_path / "run"
    serve = ["-m", "aploss_mx.training.serve"]
    flags = [*tiny_flags(shapes, folder, epochs=100_000), "--kv-store", "dist_sync", "--timeout", str(TIMEOUT)]
    train = ["scripts/train_voc.py", *flags]
    with member(near, "scheduler", serve) as scheduler, member(near, "server", serve) as server, member(
        near, "worker", train
    ) as leader, member(far, "worker", train) as other:
        wait_until((folder / "last.npz").exists, leader, 300)
        if fault == "the link is cut":
            ip("-n", near, "link", "set", WIRE, "down")
            left = [scheduler, server, leader, other]
        else:
            os.kill(other.pid, signal.SIGKILL)
            left = [scheduler, server, leader]
        start = time.monotonic()
        told = {process: process.communicate(timeout=4 * TIMEOUT)[1] for process in left}
        took = time.monotonic() - start
    assert all(process.returncode == LOST for process in left), told
    silent = f"says nothing for {TIMEOUT} s" if fault == "the link is cut" else "has ended"
    for process in (scheduler, server, leader):
        assert f"({ADDRESSES[1]}) {silent}: the run cannot go on without it" in told[process]
    if fault == "the link is cut":
        assert f"the scheduler at {ADDRESSES[0]}:{PORT + 1} says nothing for {TIMEOUT} s" in told[other]
    print(f"\n{fault}: all ended after {took:.1f} s")
    assert Path(folder / "last.npz").exists()
