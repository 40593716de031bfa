"""End child processes with their parent, however it ends.

python -m aploss_mx.parent PID PROGRAM ARGUMENTS … runs a program that ends with its parent, the process PID.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SIGNAL_OF_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of Linux
_LIBC = ctypes.CDLL(None)  # here, since a fork of several threads may wait for the lock of dynamic loading for ever


def end_with(parent: int) -> None:
    """Let this process end by SIGTERM when the thread of process `parent` that started it does; for `preexec_fn`."""
    _LIBC.prctl(SIGNAL_OF_PARENTS_DEATH, signal.SIGTERM)
    if os.getppid() != parent:  # which ended before
        os._exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
