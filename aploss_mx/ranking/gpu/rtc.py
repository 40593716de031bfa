"""Solve AP-loss and AUC-loss on MXNet's GPU contexts, by kernels that `mx.rtc` compiles at run time.

Where they cannot run, the reason is told once, and the losses are computed on the host; APLOSS_MX_GPU_KERNELS=0 asks
for that. A GPU whose first use does not end is told, too: MXNet would wait for it for ever and say nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Iterator

import mxnet as mx
import numpy as np

from aploss_mx.cuda import CODE
from aploss_mx.ranking.exact import PiecewiseRanking, ap_loss
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, MAX_SCORES, THREADS, read_kernels, read_source, solve_group
from aploss_mx.ranking.problem import Method, images_of_group

# Custom operators of several GPUs run in threads of their own, and MXNet's table of loaded kernels has no lock.
_LOCK = threading.RLock()

# The oldest, whose PTX newer ones take, too: MXNet would compile for the first GPU, and another may be older.
ARCHITECTURE = "--gpu-architecture=compute_{}{}".format(*CODE[0])

SWITCH = "APLOSS_MX_GPU_KERNELS"
PATIENCE_SECONDS = 60  # compiling takes seconds, and then a launch is a matter of microseconds


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
    module = mx.rtc.CudaModule(read_source(), (*COMPILER_OPTIONS, ARCHITECTURE))
    kernels = {
        name: module.get_kernel(name, ", ".join(f"{kind} {parameter}" for kind, parameter in kernel.parameters))
        for name, kernel in read_kernels().items()
    }
    # Never freed: at the program's end there may be no CUDA context left to unload them from.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object((module, kernels)))
    return kernels


@contextmanager
def _breaking_silence(context: mx.Context) -> Iterator[None]:
    """Tell on stderr what to do if the work inside does not end; it is waited for all the same."""
    message = (
        f"{context} has not answered for {PATIENCE_SECONDS} s to its first ranking of scores. If it never does, end "
        f"the program: with {SWITCH}=0 in the environment the host ranks; aploss-mx check-gpu --mxnet looks for causes"
    )
    timer = threading.Timer(PATIENCE_SECONDS, print, (message,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_available(context: mx.Context) -> bool:
    """Return whether the kernels compile and give right numbers on a device; warns, once, where they do not."""
    with _LOCK:
        return _is_available(context)


@lru_cache(maxsize=None)
def _is_available(context: mx.Context) -> bool:
    try:
        with _breaking_silence(context):
            # One negative above so many equal positives that all kernels run. MXNet asks CUDA for a kernel when it is
            # first launched, and a thread that launches one later may have no CUDA context.
            positives = THREADS + 1
            values = [[[0.5], *[[0]] * positives]], [[0, *[1] * positives]]
            logits, class_targets = (mx.nd.array(array, context) for array in values)
            outputs = mx.nd.empty((1,), context), mx.nd.empty(logits.shape, context)
            solve_anchors(ap_loss(), context, logits, class_targets, 0, *outputs)
            found = np.concatenate([output.asnumpy().ravel() for output in outputs])
    except (mx.MXNetError, AttributeError, OSError) as error:
        if "out of memory" in str(error):
            raise  # which says nothing of the kernels
        reasons = [line.strip() for line in str(error).splitlines() if "rror" in line]
        _tell_fallback(f"mx.rtc cannot run their kernels on {context} ({reasons[-1] if reasons else repr(error)})")
        return False
    # The step at 0.5 is 0.75 high, and 0.5 at the other positives.
    loss = 0.75 / (0.75 + 1 + 0.5 * (positives - 1))
    expected = np.array([loss, loss, *[-loss / positives] * positives])
    if not np.allclose(found, expected, rtol=1e-5, atol=0):
        _tell_fallback(f"their kernels give wrong numbers on {context} (as {found[:3]} for {expected[:3]})")
        return False
    return True


@lru_cache(maxsize=None)
def _tell_fallback(reason: str) -> None:
    warnings.warn(f"ranking losses run on the host, since {reason}", stacklevel=2)


def can_solve(method: Method, ranking_scope: str, context: mx.Context, logits: mx.nd.NDArray) -> bool:
    """Return whether `solve_anchors` here can do what that of `problem` does on the host; warns, once, why not."""
    if context.device_type != "gpu":
        return False
    reason = ""
    if os.environ.get(SWITCH) == "0":
        reason = f"{SWITCH}=0 says so"
    elif not isinstance(method, PiecewiseRanking):
        reason = "only AP-loss and AUC-loss have kernels"
    elif ranking_scope != "all":
        reason = f"there are no kernels for rankings by {ranking_scope}"
    elif logits.dtype != np.float32:
        reason = f"there are no kernels for logits of {np.dtype(logits.dtype).name}"
    elif logits.size > MAX_SCORES:
        reason = f"the kernels cannot number {logits.size} scores"
    if reason:
        _tell_fallback(reason)
        return False
    return is_available(context)


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
