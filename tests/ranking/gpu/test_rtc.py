"""The way through `mx.rtc` without a GPU: MXNet itself checks signatures and arguments, the kernels run on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from emulated_gpu import EmulatedGPU, refuse_shared_arrays
from mxnet import autograd
from mxnet.base import _LIB

from aploss_mx.losses import APLoss, AUCLoss, SmoothAPLoss
from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.gpu import rtc
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, THREADS, read_kernels, read_source
from aploss_mx.ranking.problem import solve_anchors


class CPUThatSaysGPU(mx.Context):
    """A context for arrays that live on the CPU."""

    @property
    def device_type(self) -> str:
        return "gpu"

    def __str__(self) -> str:
        return f"cpu({self.device_id})"


class GPUBuild:
    """Stands in for what MXNet's kernels does with kernels; the Python around it stays MXNet's own."""

    def __init__(self, kernels):
        self.emulated = EmulatedGPU(kernels)
        self.compiled: list[tuple[str, tuple[str, ...]]] = []
        self.launches: list[str] = []
        build = self

        class Kernel(mx.rtc.CudaKernel):
            def launch(self, args, ctx, grid_dims, block_dims, shared_mem=0):
                super().launch(args, ctx, grid_dims, block_dims, shared_mem)
                build.run(self._name, args, ctx, grid_dims, block_dims, shared_mem)

        class Module(mx.rtc.CudaModule):
            def __init__(self, source, options=(), exports=()):
                super().__init__(source, options, exports)
                build.compiled.append((source, options))

        self.module, self.kernel = Module, Kernel

    def run(self, name, args, ctx, grid_dims, block_dims, shared_mem) -> None:
        assert ctx.device_type == "gpu"
        assert (grid_dims[1:], block_dims, shared_mem) == ((1, 1), (THREADS, 1, 1), 0)
        self.launches.append(name)
        refuse_shared_arrays(name, [_span(arg) if isinstance(arg, mx.nd.NDArray) else None for arg in args])
        values = [arg.asnumpy() if isinstance(arg, mx.nd.NDArray) else arg for arg in args]
        self.emulated.launch(name, grid_dims[0], *values)
        for (kind, _), arg, value in zip(read_kernels()[name].parameters, args, values):
            if kind.endswith("*") and not kind.startswith("const"):
                arg[:] = mx.nd.array(value, dtype=value.dtype)


def _span(array: mx.nd.NDArray) -> tuple[int, int]:
    address = ctypes.c_void_p()
    assert _LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)) == 0
    return address.value, array.size * np.dtype(array.dtype).itemsize


@pytest.fixture
def gpu_build(kernels, monkeypatch):
    gpu = GPUBuild(kernels)
    monkeypatch.setattr(mx.rtc, "CudaModule", gpu.module)
    monkeypatch.setattr(mx.rtc, "CudaKernel", gpu.kernel)
    monkeypatch.setattr(mx.rtc, "check_call", lambda status: None)
    calls = ("ModuleCreate", "ModuleFree", "KernelCreate", "KernelFree", "KernelCall")
    monkeypatch.setattr(mx.rtc, "_LIB", SimpleNamespace(**{f"MXRtcCuda{call}": lambda *_: 0 for call in calls}))
    with fresh_caches():
        yield gpu


@contextlib.contextmanager
def fresh_caches():
    for function in (rtc._is_available, rtc._compiled):
        function.cache_clear()
    yield
    for function in (rtc._is_available, rtc._compiled):
        function.cache_clear()


def random_batch(batch=2, anchors=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1, (batch, anchors, classes)).astype(np.float32)
    return logits, rng.choice([-1, 0, 0, 0, 1, 2, 3], (batch, anchors))


def step(block, logits, class_targets):
    """Loss and gradient of twice a block's loss."""
    inputs, targets = mx.nd.array(logits, dtype=logits.dtype), mx.nd.array(class_targets)
    inputs.attach_grad()
    with autograd.record():
        loss = block(inputs, targets) * 2
    loss.backward()
    return loss.asscalar(), inputs.grad.asnumpy()


@pytest.mark.parametrize("ranking_batch", [0, 1, 2])
def test_loss_and_gradient_are_the_hosts(gpu_build, ranking_batch):
    logits, class_targets = random_batch(4)
    loss, gradient = mx.nd.ones((1,)), mx.nd.ones(logits.shape)
    arrays = (mx.nd.array(logits), mx.nd.array(class_targets, dtype="int32"))
    rtc.solve_anchors(ap_loss(0.5), CPUThatSaysGPU("cpu"), *arrays, ranking_batch, loss, gradient)
    expected_loss, expected_grad = solve_anchors(ap_loss(0.5), logits, class_targets, ranking_batch)
    assert loss.asscalar() == pytest.approx(expected_loss, rel=1e-6)
    np.testing.assert_allclose(gradient.asnumpy(), expected_grad, rtol=1e-5, atol=1e-10)


def test_all_kernels_are_compiled_once(gpu_build):
    for _ in range(2):
        arrays = map(mx.nd.array, random_batch())
        rtc.solve_anchors(ap_loss(), CPUThatSaysGPU("cpu"), *arrays, 0, mx.nd.zeros((1,)), mx.nd.zeros((2, 60, 3)))
    assert gpu_build.compiled == [(read_source(), COMPILER_OPTIONS)]
    assert set(gpu_build.launches) == set(read_kernels()) - {"merge_runs"}  # of which few positives need none


def test_an_array_both_read_and_written_is_refused(gpu_build):
    device = rtc.MXNetGPU(CPUThatSaysGPU("cpu"))
    counters, places, scores = device.zeros(4, "int32"), device.zeros(1, "int32"), device.zeros(8, "float32")
    part = scores[2:6]
    for inputs, written in [((scores, places), scores), ((scores, scores), scores), ((scores[:4], places), part)]:
        with pytest.raises(AssertionError, match="logits and scores are one array"):
            device.launch("find_positives", 1, *inputs, 0, 1, counters, places, written)


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("make", [lambda: APLoss(0.5), lambda: APLoss(interpolated=False), lambda: AUCLoss(2.0)])
def test_blocks_take_the_kernels(gpu_build, monkeypatch, make, hybridize):
    batch = random_batch()
    on_host = step(make(), *batch)
    assert not gpu_build.launches
    monkeypatch.setattr(mx, "current_context", lambda: CPUThatSaysGPU("cpu"))
    block = make()
    if hybridize:
        block.hybridize(static_alloc=True)
    for _ in range(2):
        loss, gradient = step(block, *batch)
        assert loss == pytest.approx(on_host[0], rel=1e-6)
        np.testing.assert_allclose(gradient, on_host[1], rtol=1e-5, atol=1e-10)
    assert gpu_build.launches.count("write_gradient") == 2


@pytest.mark.parametrize(
    "block",
    [APLoss(ranking_scope="class"), SmoothAPLoss(), APLoss()],
    ids=["ranked by class", "another loss", "other numbers"],
)
def test_what_the_kernels_cannot_do_is_done_on_the_host(gpu_build, monkeypatch, block):
    logits, class_targets = random_batch()
    if isinstance(block, APLoss):
        logits = logits.astype(np.float64)
    on_host = step(block, logits, class_targets)
    monkeypatch.setattr(mx, "current_context", lambda: CPUThatSaysGPU("cpu"))
    loss, gradient = step(block, logits, class_targets)
    assert loss == on_host[0]
    np.testing.assert_array_equal(gradient, on_host[1])
    assert not gpu_build.launches


def test_without_a_compiler_the_host_serves_with_one_warning(monkeypatch):
    """This build of MXNet has none."""
    batch = random_batch()
    on_host = step(APLoss(), *batch)
    monkeypatch.setattr(mx, "current_context", lambda: CPUThatSaysGPU("cpu"))
    with fresh_caches(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            loss, gradient = step(APLoss(), *batch)
            assert loss == on_host[0]
            np.testing.assert_array_equal(gradient, on_host[1])
        (warning,) = [one for one in told if "ranking losses run on the host" in str(one.message)]
    assert "mx.rtc" in str(warning.message)
