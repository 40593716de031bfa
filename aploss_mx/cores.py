"""The cores that this process may use, and how several processes share them."""

from __future__ import annotations

import os


def count_cores() -> int:
    """Return the number of cores, of those that the system grants this process where it says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sharing_cores(processes: int) -> dict[str, str]:
    """Return the environment of one of so many processes at a time, which computes on its share of the cores.

    OMP_NUM_THREADS stays what it is where this process has it.
    """
    return {"OMP_NUM_THREADS": str(max(1, count_cores() // processes)), **os.environ}
