"""The devices and the cores that a command runs on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aploss_mx.cuda import problems_of
from symbols.mxnet_setup import count_cores, variables_set

if TYPE_CHECKING:
    import mxnet as mx


def sharing_cores(processes: int) -> dict[str, str]:
    """Return the environment of one of so many processes at a time, which computes on its share of the cores.

    OMP_NUM_THREADS stays what it is where somebody gave it to this process.
    """
    given = {name: value for name, value in os.environ.items() if name not in variables_set}
    return {"OMP_NUM_THREADS": str(max(1, count_cores() // processes)), **given}


def parse_devices(gpus: str = "", cpus: int = 1) -> list[mx.Context]:
    """Return the contexts that the flags ``--gpus 0,1`` and ``--cpus 2`` name; GPUs win.

    Raises
    ------
    ValueError
        If an id is no number, is named twice, or there is no such GPU, or none that MXNet can use.
    """
    import mxnet as mx  # here, since what only counts cores needs no MXNet

    if not gpus:
        if cpus < 1:
            raise ValueError(f"--cpus must be at least 1, not {cpus}")
        return [mx.cpu(number) for number in range(cpus)]
    try:
        ids = [int(item) for item in gpus.split(",")]
    except ValueError:
        raise ValueError(f"--gpus takes ids joined by commas, such as 0,1, not {gpus!r}") from None
    if len(set(ids)) < len(ids):
        raise ValueError(f"--gpus {gpus} names a GPU twice")
    try:
        present = mx.context.num_gpus()
    except mx.MXNetError:
        present = 0
    missing = [number for number in ids if not 0 <= number < present]
    if missing:
        raise ValueError(
            f"--gpus {gpus}: MXNet {mx.__version__} sees {present} GPU(s) here; "
            "GPUs need the mxnet-cu112 build and a driver (docs/devices.md says which), without --gpus the CPU is used"
        )
    problems = problems_of(ids)
    if problems:
        raise ValueError(f"--gpus {gpus}: {'; '.join(problems)}")
    return [mx.gpu(number) for number in ids]
