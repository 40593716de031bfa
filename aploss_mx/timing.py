"""Time pieces of work by the clock on the wall."""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable


def timed(function: Callable, *args: Any) -> tuple[float, Any]:
    """Call a function once; return seconds and result."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def median_seconds(repeats: int, function: Callable, *args: Any) -> float:
    """Return the median time of several calls: a best of many would flatter what is compared with a single one."""
    return statistics.median(timed(function, *args)[0] for _ in range(repeats))
