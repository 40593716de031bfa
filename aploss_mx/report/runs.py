"""Finish the runs of a reproduction: each in its folder, once, resumed, and never at work twice at a time."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Iterator, Sequence

import portalocker
from tqdm import tqdm

from aploss_mx.atomic import write_text
from aploss_mx.devices import sharing_cores
from aploss_mx.parent import end_with

STARTED, DONE, LOG, LOCK = "started.json", "done.json", "run.log", ".lock"
POLL_SECONDS = 0.5
LINES_OF_LOG = 15  # shown of a run that failed
PLACES = ("--save-prefix", "--params", "--output")  # flags that say where a run stands, not what it is
PATHS = ("--dataset-root", "--pretrained")


class RunError(RuntimeError):
    """A run that failed; the message says why."""


class Runner:
    """Finishes runs, from several threads if need be, until it is stopped.

    Parameters
    ----------
    repository : Path
        Working copy that the commands are of.
    jobs : int
        Commands at a time: of several, each computes on its share of the cores, unless OMP_NUM_THREADS says otherwise.
    """

    def __init__(self, repository: Path, jobs: int = 1) -> None:
        environment = sharing_cores(jobs) if jobs > 1 else os.environ
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}  # or what a killed run said would be lost
        self._repository = repository
        self._stopping = threading.Event()
        self._processes: set[subprocess.Popen] = set()

    def stop(self) -> None:
        """End the commands at work, and start none any more."""
        self._stopping.set()
        for process in list(self._processes):
            process.terminate()

    def check(self) -> None:
        """Raise RunError where the runner is stopped."""
        if self._stopping.is_set():
            raise RunError("stopped")

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Hold a folder for this process, once no other one does; the lock goes with the process.

        Raises
        ------
        RunError
            If the runner is stopped meanwhile.
        """
        folder.mkdir(parents=True, exist_ok=True)
        waiting = False
        with open(folder / LOCK, "w") as file:
            while True:
                self.check()
                try:
                    portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
                    break
                except portalocker.LockException as error:
                    if not isinstance(error.__cause__, BlockingIOError):
                        raise OSError(f"{folder} cannot be locked: {error}") from error
                    if not waiting:
                        tqdm.write(f"waiting for {folder}, which another process works on")
                    waiting = True
                    time.sleep(POLL_SECONDS)
            yield

    def finish(self, command: Sequence[str], folder: Path, where: Sequence[str] = ()) -> None:
        """Run a command to its end, unless it has been: it must resume with what the folder holds.

        Flags of `where` are added to the command, but may be others when the run resumes.

        Raises
        ------
        RunError
            If the command fails, or the folder holds a run of another command.
        """
        with self.locked(folder):
            path = folder / STARTED
            commit = commit_of(self._repository)
            note = {"commit": commit, "command": list(command)}
            if path.exists():
                before = read_json(path)
                differences = _differences(before["command"], command)
                if differences:
                    raise RunError(
                        f"{folder} holds a run of other flags ({differences}): choose another --runs and --results"
                    )
                if (folder / DONE).exists():
                    return
                commits = [*filter(None, before["commit"].split(", ")), *filter(None, [commit])]
                note["commit"] = ", ".join(dict.fromkeys(commits))  # of all that it was made with
            write_text(path, json.dumps(note, indent=1) + "\n")
            self._run([*command, *where], folder / LOG)
            write_text(folder / DONE, path.read_text(encoding="utf-8"))

    def _run(self, command: Sequence[str], log: Path) -> None:
        with open(log, "a", encoding="utf-8") as file:
            end_with_parent = partial(end_with, os.getpid())  # or the lock on its folder would be gone
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment, preexec_fn=end_with_parent
            )
            self._processes.add(process)
            if self._stopping.is_set():
                process.terminate()
            status = process.wait()
            self._processes.discard(process)
        if status:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_OF_LOG:])
            raise RunError(f"a run failed with status {status}; the end of {log}:\n{end}")


def _differences(old: Sequence[str], new: Sequence[str]) -> str:
    """Return how what two commands do differs, '' where it does not.

    Python, program and run may stand elsewhere; data and weights are the same where their paths lead to one place.
    """
    was, now = _what_it_does(old), _what_it_does(new)
    only = [" ".join(part for part in one if part not in other) for one, other in ((was, now), (now, was))]
    return f"{only[0] or 'nothing'}, now {only[1] or 'nothing'}" if any(only) else ""


def _what_it_does(command: Sequence[str]) -> list[str]:
    """Return the command's name and its flags, each with its value: of one that is given twice, the last."""
    program, *rest = command[3:] if "aploss_mx" in command[2:3] else command[1:]
    parts = {"": Path(program).stem.replace("_", "-")}  # scripts/train_voc.py is train-voc, too
    for before, word in zip([program, *rest], rest):
        if before.startswith("--") and not word.startswith("--"):
            path = before in PATHS and Path(word).exists()
            parts[before] = f"{before} {Path(word).resolve() if path else word}"
        else:
            parts[word] = word
    return [part for name, part in parts.items() if name not in PLACES]


def is_done(folder: Path) -> bool:
    """Return whether a run is finished."""
    return (folder / DONE).exists()


def about(folder: Path) -> dict[str, Any]:
    """Return commit and command of a finished run."""
    return read_json(folder / DONE)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of a run holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def commit_of(repository: Path) -> str:
    """Return the commit of a working copy, with '+' if files differ from it; '' outside one.

    An installed package is outside, though the folder that it stands in may be another project's.
    """
    try:
        _git(repository, "ls-files", "--error-unmatch", ".")
        commit = _git(repository, "rev-parse", "--short=10", "HEAD")
        return commit + ("+" if _git(repository, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
