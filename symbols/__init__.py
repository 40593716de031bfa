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
os.environ.setdefault("OMP_NUM_THREADS", str(_cores))
# Threads that wait for each other go to sleep soon: spinning on, they would starve the processes that load data.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
