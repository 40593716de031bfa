"""Prepare the process for MXNet 1.9.1 once somebody imports it, and not before.

Importing this module is enough. Until `import mxnet` nothing is changed: other people's programs keep their numpy.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

ALIASES = {"bool": bool, "int": int, "float": float, "object": object}
"""Names that MXNet and GluonCV use and numpy 1.24 removed (apache/mxnet#21165)."""

variables_set: set[str] = set()
"""The environment's variables that `prepare` set, which nobody had given."""


def count_cores(root: str | Path = "/") -> int:
    """Return how many cores this process may use: those that it is bound to, or fewer where a quota allows fewer.

    `docker run --cpus 2` shows a process all cores of the machine, and stops it for the rest of each tenth of a second
    in which it has had as much time as two cores give.

    Parameters
    ----------
    root : path
        Folder that holds ``proc`` and ``sys``.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *(max(1, math.ceil(quota)) for quota in _quotas(Path(root)))])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of this process's control groups and of those around them, in cgroup v1 and v2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = mount / group.lstrip("/")
        for place in (folder, *folder.parents):
            for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
                with suppress(OSError, ValueError):  # no such file; "max", which is no limit
                    quota, period = map(int, " ".join((place / file).read_text() for file in files).split())
                    if quota > 0:
                        yield quota / period
            if place == mount:  # a container may see its own group there, under a path that is not there
                break


def count_threads() -> int:
    """Return how many threads OMP_NUM_THREADS asks for; without it, as many as there are cores.

    Raises
    ------
    ValueError
        If it is no number of threads, nor a list of them.
    """
    given = os.environ.get("OMP_NUM_THREADS") or str(count_cores())
    if not all(part.strip().isdecimal() and int(part) for part in given.split(",")):
        raise ValueError(f"OMP_NUM_THREADS must be a number of threads, at least 1, not {given!r}")
    return int(given.split(",")[0])


def prepare() -> None:
    """Give numpy back its old names, and MXNet its threads; errors as `count_threads`."""
    import numpy as np

    for name, kind in ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    # MXNet's own default runs at the speed of one thread. Threads that wait for each other go to sleep soon: spinning
    # on, they would starve the processes that load data.
    for name, value in {"OMP_NUM_THREADS": str(count_threads()), "GOMP_SPINCOUNT": "20000"}.items():
        if not os.environ.get(name):
            os.environ[name] = value
            variables_set.add(name)


_before: list[Callable[[], object]] = []
_after: list[Callable[[], object]] = []


def before_mxnet(act: Callable[[], object]) -> None:
    """Call a function right before MXNet is loaded, or now where it is there already."""
    act() if sys.modules.get("mxnet") else _before.append(act)


def after_mxnet(act: Callable[[], object]) -> None:
    """Call a function once MXNet is there."""
    act() if sys.modules.get("mxnet") else _after.append(act)


class _Hook(MetaPathFinder):
    """Acts around `import mxnet`, and then steps aside; whoever only looks for MXNet changes nothing."""

    looking = False

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "mxnet" or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.looking = False
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_and_act(module: ModuleType) -> None:
                for act in _before:
                    act()
                load(module)
                sys.meta_path.remove(self)  # once all went well: after an error the next import prepares anew
                for act in _after:
                    act()

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Hook())
before_mxnet(prepare)
