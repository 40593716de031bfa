"""Training runs of a reproduction: each in its folder, finished once, resumed, and never at work twice at a time."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

from aploss_mx.atomic import write_text

STARTED, DONE, LOG, LOCK = "started.json", "done.json", "train.log", ".lock"
POLL_SECONDS = 0.5
LINES_OF_LOG = 15  # shown of a run that failed
SIGNAL_OF_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of Linux


class RunError(RuntimeError):
    """A run that failed; the message says why."""


class Runner:
    """Finishes runs, from several threads if need be, until it is stopped.

    Parameters
    ----------
    jobs : int
        Commands at a time: of several, each computes on its share of the cores, unless OMP_NUM_THREADS says otherwise.
    """

    def __init__(self, jobs: int = 1) -> None:
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
        self._environment = {**share, **os.environ, "PYTHONUNBUFFERED": "1"}  # or what a killed run said would be lost
        self._stopping = threading.Event()
        self._processes: set[subprocess.Popen] = set()

    def stop(self) -> None:
        """End the commands at work, and start none any more."""
        self._stopping.set()
        for process in list(self._processes):
            process.terminate()

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Hold a folder for this process, once no other one does; the lock goes with the process.

        Raises
        ------
        RunError
            If the runner is stopped meanwhile.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "w") as file:
            while True:
                if self._stopping.is_set():
                    raise RunError(f"{folder}: stopped")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(POLL_SECONDS)
            yield

    def finish(self, command: Sequence[str], folder: Path, commit: str, where: Sequence[str] = ()) -> None:
        """Run a training command to its end, unless it has been: it must go on with what the folder holds.

        Flags of `where` are added to the command, but may be others when the run goes on.

        Raises
        ------
        RunError
            If the command fails, or the folder holds a run of another command.
        """
        with self.locked(folder):
            note = folder / STARTED
            if note.exists():
                before = json.loads(note.read_text(encoding="utf-8"))["command"]
                if before[1:] != list(command[1:]):  # whichever Python runs it
                    raise RunError(f"{folder} holds a run of other flags, choose another --runs: {' '.join(before)}")
            else:
                write_text(note, json.dumps({"commit": commit, "command": list(command)}, indent=1) + "\n")
            if (folder / DONE).exists():
                return
            self.run([*command, *where], folder / LOG)
            write_text(folder / DONE, note.read_text(encoding="utf-8"))

    def run(self, command: Sequence[str], log: Path) -> None:
        """Run a command with its output appended to a file; it ends with this process.

        Raises
        ------
        RunError
            If the command fails; the message has the end of the file.
        """
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment, preexec_fn=_end_with_parent
            )
            self._processes.add(process)
            if self._stopping.is_set():
                process.terminate()
            status = process.wait()
            self._processes.discard(process)
        if status:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_OF_LOG:])
            raise RunError(f"a run failed with status {status}; the end of {log}:\n{end}")


def _end_with_parent() -> None:
    # Otherwise the training would go on, and the lock on its folder be gone.
    ctypes.CDLL(None).prctl(SIGNAL_OF_PARENTS_DEATH, signal.SIGTERM)


def is_done(folder: Path) -> bool:
    """Return whether a run is finished."""
    return (folder / DONE).exists()


def about(folder: Path) -> dict[str, Any]:
    """Return commit and command of a finished run."""
    return json.loads((folder / DONE).read_text(encoding="utf-8"))


def commit_of(repository: Path) -> str:
    """Return the commit of a working copy, with '+' if files differ from it; '' outside one."""
    try:
        commit = _git(repository, "rev-parse", "--short=10", "HEAD")
        return commit + ("+" if _git(repository, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
