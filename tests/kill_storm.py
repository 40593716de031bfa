#!/usr/bin/env python
"""Kill processes of trainings at random moments: none may wait for ever, be left over, or cost the run its checkpoint.

python tests/kill_storm.py --kills 100

Each training goes on where the one before was killed. In the end, the run on one device that was killed all the time
must hold the weights, bit for bit, of one that never was.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tiny_training import REPOSITORY, STARTED, assert_same_arrays, paint_shapes, tiny_flags

from aploss_mx.checkpoint import Checkpoint

TOKEN = "KILL_STORM"  # in the environment of all that a round starts
LIMIT_SECONDS = 30
NEVER = 100_000  # epochs
STARTS = 0.25  # of the kills hit the start
SETUPS = {
    "one device": ["scripts/train_voc.py"],
    "two devices": ["scripts/train_voc.py", "--cpus", "2"],
    "two workers": ["scripts/launch_local.py", "--workers", "2", "scripts/train_voc.py", "--kv-store", "dist_sync"],
}
SHARE = {"one device": 0.35, "two devices": 0.3, "two workers": 0.35}


class Round(NamedTuple):
    """One kill: whom, how long after the start, and how long until all were gone."""

    setup: str
    victim: str
    after: float
    took: float
    status: int | None
    epoch: int
    said: str


def processes_of(token: str) -> dict[int, str]:
    """Return process ids and kinds of all that carry a token."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            environment = (folder / "environ").read_bytes() if folder.name.isdigit() else b""
            if f"{TOKEN}={token}".encode() in environment:
                command = (folder / "cmdline").read_bytes()
                found[int(folder.name)] = kind_of(command, environment)
    return found


def kind_of(command: bytes, environment: bytes) -> str:
    if b"aploss_mx.data.worker" in command:
        return "loader"
    if b"launch_local" in command:
        return "launcher"
    for role in ("scheduler", "server", "worker"):
        if f"DMLC_ROLE={role}".encode() in environment:
            return role
    return "main"


def command_of(setup: str, shapes: Path, folder: Path, epochs: int) -> list[str]:
    flags = tiny_flags(shapes, folder, epochs=epochs, val_interval=1, augmentation="ssd")
    return [sys.executable, *SETUPS[setup], *flags, "--num-workers", "2", "--resume", "auto"]


def start(command: list[str], token: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": STARTED, "OMP_NUM_THREADS": "1", TOKEN: token}
    pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipe)


def last_words(process: subprocess.Popen, said: list[bytes]) -> None:
    said.extend(process.stderr)


def wait_for_a_moment(process: subprocess.Popen, folder: Path, draw: random.Random, longest: float) -> None:
    """Wait for some moment of the start, or of the steps, evaluations and checkpoints after it."""
    log, begin = folder / "metrics.csv", time.time()
    if draw.random() < STARTS:
        time.sleep(draw.uniform(0, longest))
        return
    while process.poll() is None and not (log.exists() and log.stat().st_mtime > begin):
        time.sleep(0.05)
    time.sleep(draw.uniform(0, longest))


def kill_once(setup: str, shapes: Path, folder: Path, draw: random.Random, longest: float) -> Round:
    token, begin, said = uuid.uuid4().hex, time.monotonic(), []
    process = start(command_of(setup, shapes, folder, NEVER), token)
    listener = threading.Thread(target=last_words, args=(process, said))
    listener.start()
    wait_for_a_moment(process, folder, draw, longest)
    kinds = processes_of(token)
    assert kinds, b"".join(said).decode()
    victim = draw.choice(sorted(set(kinds.values())))
    after = time.monotonic() - begin
    with suppress(ProcessLookupError):
        os.kill(draw.choice([pid for pid, kind in kinds.items() if kind == victim]), signal.SIGKILL)
    killed = time.monotonic()
    status, left = None, kinds
    while (left or status is None) and time.monotonic() - killed < LIMIT_SECONDS:
        time.sleep(0.05)
        status, left = process.poll(), processes_of(token)
    took = time.monotonic() - killed
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    listener.join()
    last = folder / "last.npz"
    epoch = Checkpoint.load(last).epoch if last.exists() else 0
    lines = b"".join(said).decode(errors="replace").replace("\r", "\n").splitlines()
    told = [line for line in lines if "rror" in line or "ended with" in line]
    return Round(setup, victim, round(after, 1), round(took, 2), status, epoch, told[0] if told else "")


def finish(setup: str, shapes: Path, folder: Path, epochs: int) -> Checkpoint:
    process = start(command_of(setup, shapes, folder, epochs), uuid.uuid4().hex)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return Checkpoint.load(folder / "last.npz")


def storm(setup: str, kills: int, place: Path, seed: int, longest: float, rounds: list[Round]) -> None:
    draw, shapes, folder, epoch = random.Random(f"{seed} {setup}"), place / "shapes", place / setup.replace(" ", "_"), 0
    for _ in range(kills):
        rounds.append(kill_once(setup, shapes, folder, draw, longest))
        print(*rounds[-1], sep="\t", flush=True)
        assert rounds[-1].epoch >= epoch, "a checkpoint was lost"
        epoch = rounds[-1].epoch
    assert finish(setup, shapes, folder, epoch + 1).epoch == epoch + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="processes to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument(
        "--longest", type=float, default=10, help="seconds into start or training, at most (default: 10)"
    )
    parser.add_argument("--output", type=Path, help="CSV file for the rounds")
    arguments = parser.parse_args()
    shared_memory = set(os.listdir("/dev/shm"))
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        paint_shapes(place / "shapes", num_train=8, num_val=4)
        storms = [
            threading.Thread(
                target=storm,
                args=(setup, round(share * arguments.kills), place, arguments.seed, arguments.longest, rounds),
            )
            for setup, share in SHARE.items()
        ]
        for one in storms:
            one.start()
        for one in storms:
            one.join()
        killed = Checkpoint.load(place / "one_device" / "last.npz")
        whole = finish("one device", place / "shapes", place / "whole", killed.epoch)
        assert_same_arrays(killed.parameters, whole.parameters)
        assert_same_arrays(killed.optimizer, whole.optimizer)
        print(f"the same weights after {whole.epoch} epochs, killed and not")
    if arguments.output:
        with open(arguments.output, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Round._fields, *rounds])
    for setup in SETUPS:
        for victim in sorted({one.victim for one in rounds if one.setup == setup}):
            took = [one.took for one in rounds if (one.setup, one.victim) == (setup, victim)]
            seconds = f"{np.median(took):.1f} s, at most {max(took):.1f} s"
            print(f"{setup}, {victim}: {len(took)} kills, until all were gone {seconds}")
    hung = sum(one.took >= LIMIT_SECONDS for one in rounds)
    well = sum(one.status == 0 for one in rounds)
    left = len(set(os.listdir("/dev/shm")) - shared_memory)
    print(f"{len(rounds)} kills; over {LIMIT_SECONDS} s: {hung}; status 0: {well}; files left in /dev/shm: {left}")
    sys.exit(bool(hung or well or len(rounds) < arguments.kills))


if __name__ == "__main__":
    main()
