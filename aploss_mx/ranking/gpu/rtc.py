"""AP-loss and AUC-loss on MXNet's GPU contexts, by kernels that `mx.rtc` compiles at run time."""

from __future__ import annotations

import ctypes
import threading
import warnings
from functools import lru_cache
from typing import Any

import mxnet as mx
import numpy as np

from aploss_mx.ranking.exact import PiecewiseRanking
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, MAX_SCORES, THREADS, read_kernels, read_source, solve_group
from aploss_mx.ranking.problem import Method, images_of_group

# Custom operators of several GPUs run in threads of their own, and MXNet's table of loaded kernels has no lock.
_LOCK = threading.RLock()


class MXNetGPU:
    """A `launches.Device`: launches join the queue of MXNet's engine, and only `read` waits."""

    def __init__(self, context: mx.Context):
        self.context = context

    def zeros(self, size: int, dtype: str) -> mx.nd.NDArray:
        return mx.nd.zeros(max(1, size), self.context, dtype)  # MXNet takes a size of 0 for unknown

    def empty(self, size: int, dtype: str) -> mx.nd.NDArray:
        return mx.nd.empty(max(1, size), self.context, dtype)

    def read(self, array: mx.nd.NDArray) -> np.ndarray:
        return array.asnumpy()

    def launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        with _LOCK:
            _compiled()[kernel].launch(arguments, self.context, (blocks, 1, 1), (THREADS, 1, 1))


@lru_cache(maxsize=None)
def _compiled() -> dict[str, Any]:
    """Compile all kernels, for every device; MXNet does it again in each process."""
    module = mx.rtc.CudaModule(read_source(), COMPILER_OPTIONS)
    kernels = {
        name: module.get_kernel(name, ", ".join(f"{kind} {parameter}" for kind, parameter in kernel.parameters))
        for name, kernel in read_kernels().items()
    }
    # Never freed: at the program's end there may be no CUDA context left to unload them from.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object((module, kernels)))
    return kernels


def is_available(context: mx.Context) -> bool:
    """Return whether the kernels compile and load on a device; warns, once, where they do not."""
    with _LOCK:
        return _is_available(context)


@lru_cache(maxsize=None)
def _is_available(context: mx.Context) -> bool:
    try:
        device = MXNetGPU(context)
        counters, places = device.zeros(4, "int32"), device.empty(1, "int32")
        logits, class_targets, scores = (device.empty(1, "float32") for _ in range(3))
        # Of no rows: what it takes is to be loaded.
        device.launch("find_positives", 1, logits, class_targets, 0, 1, counters, places, scores)
        device.read(counters)
    except (mx.MXNetError, AttributeError, OSError) as error:
        reasons = [line.strip() for line in str(error).splitlines() if "rror" in line]
        reason = reasons[-1] if reasons else repr(error)
        message = f"ranking losses run on the host, since mx.rtc cannot run their kernels on {context} ({reason})"
        warnings.warn(message, stacklevel=2)
        return False
    return True


def can_solve(method: Method, ranking_scope: str, context: mx.Context, logits: mx.nd.NDArray) -> bool:
    """Return whether `solve_anchors` here can do what that of `problem` does on the host."""
    return (
        context.device_type == "gpu"
        and isinstance(method, PiecewiseRanking)
        and ranking_scope == "all"
        and logits.dtype == np.float32
        and logits.size <= MAX_SCORES
        and is_available(context)
    )


def solve_anchors(
    method: PiecewiseRanking,
    context: mx.Context,
    logits: mx.nd.NDArray,
    class_targets: mx.nd.NDArray,
    ranking_batch: int,
    loss: mx.nd.NDArray,
    gradient: mx.nd.NDArray,
) -> None:
    """Overwrite loss (1,) and gradient (B, N, K), both float32, with what `problem.solve_anchors` returns.

    Raises
    ------
    ValueError
        As `problem.solve_anchors`.
    """
    batch, anchors, classes = logits.shape
    images = images_of_group(batch, ranking_batch)
    targets = class_targets.astype(np.float32, copy=False)
    device = MXNetGPU(context)
    loss[:] = 0
    for start in range(0, batch, images):
        group = slice(start, start + images)
        solve_group(
            device, logits[group], targets[group], (images * anchors, classes), method.objective, method.delta,
            images / batch, loss, gradient[group],
        )  # fmt: skip
