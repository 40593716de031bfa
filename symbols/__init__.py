"""Network definitions; import the modules by name, e.g. ``from symbols.retinanet import get_network``.

Importing this package prepares the process for ``import mxnet``, so it must come before it.
"""

from __future__ import annotations

import os

import numpy as np

# MXNet 1.9.1 and GluonCV use aliases that numpy 1.24 removed (apache/mxnet#21165).
for _name, _type in {"bool": bool, "int": int, "float": float, "object": object}.items():
    if _name not in np.__dict__:
        setattr(np, _name, _type)

# MXNet's own default runs at the speed of one thread.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(_cores)
if not all(part.strip().isdecimal() and int(part) for part in os.environ["OMP_NUM_THREADS"].split(",")):
    raise ValueError(f"OMP_NUM_THREADS must be a number of threads, at least 1, not {os.environ['OMP_NUM_THREADS']!r}")
# Threads that wait for each other go to sleep soon: spinning on, they would starve the processes that load data.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
