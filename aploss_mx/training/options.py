"""Hold what a run takes besides its recipe: folder, devices, processes."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import mxnet as mx
import portalocker

from aploss_mx.atomic import check_target_folder
from aploss_mx.config import ConfigError
from aploss_mx.training.roll_call import TIMEOUTS, Timeouts

LOCK = ".training.lock"


@dataclass(frozen=True)
class Options:
    """Where and how to run a recipe.

    Attributes
    ----------
    save_prefix : Path
        Folder of the run: checkpoints, metrics, detections.
    devices : list of Context
        The batch is split evenly over them; each ranks its own part.
    kv_store : str
        MXNet's kvstore that sums the gradients, one of `distributed.KV_STORES`.
    num_workers : int
        Processes that load data.
    resume : str
        '' to start from step 0, 'auto' to resume from the folder's last checkpoint if there is one, or a file's path.
    log_interval : int
        Steps between rows of the metrics file.
    timeouts : Timeouts
        How long to wait for the other workers of a distributed run.
    """

    save_prefix: Path
    devices: list[mx.Context]
    kv_store: str = "device"
    num_workers: int = 2
    resume: str = ""
    log_interval: int = 20
    timeouts: Timeouts = TIMEOUTS

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.save_prefix / "last.npz"

    def check_free(self) -> None:
        """Raise ConfigError if another training is at work in the run's folder, OSError if it cannot be written."""
        self.check_writable()
        if (self.save_prefix / LOCK).exists():
            with open(self.save_prefix / LOCK) as file:
                self._take(file, portalocker.LOCK_SH)  # of which several may be held: workers look at the same time

    def lock(self) -> IO[str]:
        """Make the run's folder, if need be, and keep other trainings out of it until the returned file is closed.

        Raises
        ------
        ConfigError
            If another training is at work there.
        """
        self.save_prefix.mkdir(parents=True, exist_ok=True)
        file = open(self.save_prefix / LOCK, "a+")  # noqa: SIM115  (it stays open)
        self._take(file, portalocker.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        return file

    def _take(self, file: IO[str], lock: portalocker.LockFlags) -> None:
        try:
            portalocker.lock(file, lock | portalocker.LOCK_NB)
        except portalocker.LockException as error:
            if isinstance(error.__cause__, BlockingIOError):  # or the file system has no locks
                file.seek(0)
                with file:
                    raise ConfigError(
                        f"{file.read() or 'another program'} trains in {self.save_prefix}: wait for it, or choose "
                        "another --save-prefix"
                    ) from None

    @property
    def best(self) -> Path:
        """The checkpoint of the highest AP."""
        return self.save_prefix / "best.npz"

    def checkpoint(self) -> Path | None:
        """Return the checkpoint to resume from, or None to start from step 0.

        Raises
        ------
        ConfigError
            If the folder holds a run that would be lost.
        """
        held = next((path for path in (self.last, self.best) if path.exists()), None)
        if self.resume == "auto" and held in (None, self.last):
            return held
        if held and self.resume in ("", "auto"):
            how = "auto" if held == self.last else held
            raise ConfigError(
                f"{self.save_prefix} holds a run already: resume it with --resume {how}, or choose another "
                "--save-prefix"
            )
        path = Path(self.resume) if self.resume else None
        if path and held and path.parent.resolve() != self.save_prefix.resolve():
            raise ConfigError(
                f"{self.save_prefix} holds another run than {path}: choose another --save-prefix to resume from it"
            )
        return path

    def check_writable(self) -> None:
        """Raise OSError if the run's folder cannot be written, or made where it is missing."""
        try:
            check_target_folder(self.save_prefix)
        except OSError as error:
            told = f"cannot write to --save-prefix {self.save_prefix}: {error.strerror}: {error.filename}"
            raise OSError(told) from error
