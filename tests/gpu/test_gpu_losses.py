"""Losses on a GPU against the same on the CPU: what the operator's own tests, which run there as well, leave out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from aploss_mx.losses import APLoss, AUCLoss, SmoothAPLoss, StructuredHingeAPLoss
from aploss_mx.ranking.gpu import launches, rtc

KERNELS = {
    "AP": lambda: APLoss(0.5),
    "AP, not interpolated": lambda: APLoss(interpolated=False),
    "AP in groups": lambda: APLoss(ranking_batch=2),
    "AUC": lambda: AUCLoss(2.0),
}
# What has no kernels, and the ranking itself takes the way over the host.
HOST = {"smooth AP": SmoothAPLoss, "hinge": StructuredHingeAPLoss, "AP by class": lambda: APLoss(ranking_scope="class")}
LOSSES = {**KERNELS, **HOST}


def random_batch(shape=(4, 60, 3), seed=0, targets=(-1, 0, 0, 0, 1, 2, 3)):
    rng = np.random.default_rng(seed)
    return rng.normal(-1, 1, shape).astype(np.float32), rng.choice(targets, shape[:2]).astype(np.float32)


def step(block, logits, class_targets, device):
    """Loss and gradient of twice a block's loss."""
    inputs, targets = mx.nd.array(logits, device), mx.nd.array(class_targets, device)
    inputs.attach_grad()
    with autograd.record():
        loss = block(inputs, targets) * 2
    loss.backward()
    return loss.asscalar(), inputs.grad.asnumpy()


def assert_as_on_cpu(make, batch, device, block=None):
    loss, gradient = step(block or make(), *batch, device)
    expected_loss, expected_gradient = step(make(), *batch, mx.cpu())
    np.testing.assert_allclose(loss, expected_loss, 1e-6)
    distance = np.abs(gradient - expected_gradient).sum(dtype=np.float64)
    assert distance <= 1e-6 * np.abs(expected_gradient).sum(dtype=np.float64)


@pytest.mark.parametrize("hybridize", [{}, {"static_alloc": False}, {"static_alloc": True}])
@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_loss_and_gradient(make, hybridize):
    block = make()
    if hybridize:
        block.hybridize(**hybridize)
    for seed in range(2):
        assert_as_on_cpu(make, random_batch(seed=seed), mx.gpu(0), block=block)


@pytest.mark.parametrize("positives", [200, 1100, 2100])
def test_more_positives_than_shared_memory_takes(positives):
    """Up to 1024 their bins are counted in shared memory, up to 2048 their breakpoints are searched there."""
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.repeat([1, 0], [positives, 2400 - positives])).reshape(2, 1200)
    assert_as_on_cpu(APLoss, (rng.normal(0, 1, (2, 1200, 2)).astype(np.float32), targets), mx.gpu(0))


def test_kernels_are_compiled_once_and_all_of_them_run(monkeypatch):
    compiled, launched = [], set()
    module, launch = mx.rtc.CudaModule, rtc.MXNetGPU.launch
    monkeypatch.setattr(mx.rtc, "CudaModule", lambda *args: compiled.append(args) or module(*args))
    monkeypatch.setattr(
        rtc.MXNetGPU, "launch", lambda self, name, *args: launched.add(name) or launch(self, name, *args)
    )
    rtc._compiled.cache_clear()
    for number in range(2):
        step(APLoss(), *random_batch((2, 600, 3), targets=(0, 1)), mx.gpu(number))
    assert compiled == [(launches.read_source(), (*launches.COMPILER_OPTIONS, rtc.ARCHITECTURE))]
    assert launched == set(launches.read_kernels())


def test_a_thread_that_has_not_used_cuda_launches_all_kernels():
    """One of those that MXNet adds for operators: it may get all its memory from the pool, and never call CUDA."""
    assert rtc.is_available(mx.gpu(0))
    device = rtc.MXNetGPU(mx.gpu(0))
    places, scores = mx.nd.arange(2, ctx=mx.gpu(0), dtype="int32"), mx.nd.array([0, 1], mx.gpu(0))
    merged = device.zeros(2, "int32"), device.zeros(2, "float32")
    mx.nd.waitall()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(device.launch, "merge_runs", 1, 2, 1, places, scores, *merged).result()
    assert device.read(merged[0]).tolist() == [0, 1]
