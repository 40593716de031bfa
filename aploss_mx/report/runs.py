"""Training runs of a reproduction: each in its folder, finished once, resumed, and never at work twice at a time."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

from aploss_mx.atomic import write_text

DONE, LOG, LOCK = "done.json", "train.log", ".lock"
LINES_OF_LOG = 15  # shown of a run that failed


class RunError(RuntimeError):
    """A run that failed; the message has the end of its log."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, once no other one does; the system lets go of it whatever ends the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def finish(command: Sequence[str], folder: Path, commit: str) -> None:
    """Run a training command to its end, unless it has been: it must go on with what the folder holds.

    Raises
    ------
    RunError
        If the command fails.
    """
    with locked(folder):
        if (folder / DONE).exists():
            return
        start = time.monotonic()
        run_logged(command, folder / LOG)
        about = {"commit": commit, "command": list(command), "seconds": round(time.monotonic() - start, 1)}
        write_text(folder / DONE, json.dumps(about, indent=1) + "\n")


def run_logged(command: Sequence[str], log: Path) -> None:
    """Run a command with its output appended to a file; it ends with this process.

    Raises
    ------
    RunError
        If the command fails.
    """
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_OF_LOG:])
        raise RunError(f"a run failed with status {status}; the end of {log}:\n{end}")


def is_done(folder: Path) -> bool:
    """Return whether a run is finished."""
    return (folder / DONE).exists()


def about(folder: Path) -> dict[str, Any]:
    """Return what `finish` noted of a finished run."""
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
