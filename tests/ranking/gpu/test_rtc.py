"""Ranking on a GPU's context where MXNet is built without CUDA; tests/gpu runs the build that has it."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from aploss_mx.losses import APLoss
from aploss_mx.ranking import problem
from aploss_mx.ranking.exact import ap_loss, auc_loss
from aploss_mx.ranking.gpu import rtc
from aploss_mx.ranking.gpu.launches import MAX_SCORES
from aploss_mx.ranking.structured_hinge import structured_hinge_loss

pytestmark = pytest.mark.skipif(mx.runtime.Features().is_enabled("CUDA"), reason="of a build without CUDA")


class CPUThatSaysGPU(mx.Context):
    """A context for arrays that live on the CPU."""

    @property
    def device_type(self) -> str:
        return "gpu"

    def __str__(self) -> str:
        return f"cpu({self.device_id})"


def step(logits, class_targets):
    """AP-loss and its gradient."""
    inputs, targets = mx.nd.array(logits), mx.nd.array(class_targets)
    inputs.attach_grad()
    with autograd.record():
        loss = APLoss()(inputs, targets)
    loss.backward()
    return loss.asscalar(), inputs.grad.asnumpy()


@pytest.mark.parametrize("switch", ["", "0"])
def test_the_host_serves_with_one_warning(monkeypatch, switch):
    rng = np.random.default_rng(0)
    batch = rng.normal(-1, 1, (2, 60, 3)), rng.choice([-1, 0, 0, 0, 1, 2, 3], (2, 60))
    on_host = step(*batch)
    monkeypatch.setattr(mx, "current_context", lambda: CPUThatSaysGPU("cpu"))
    monkeypatch.setenv(rtc.SWITCH, switch)
    rtc._is_available.cache_clear()
    rtc._tell_fallback.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            loss, gradient = step(*batch)
            assert loss == on_host[0]
            np.testing.assert_array_equal(gradient, on_host[1])
    (warning,) = [one for one in told if "ranking losses run on the host" in str(one.message)]
    assert (rtc.SWITCH if switch else "mx.rtc") in str(warning.message)


@pytest.mark.parametrize(("loss", "gradient"), [(1, 1), (1, -1), (0.9, 1), (np.nan, 0)])
def test_kernels_that_give_wrong_numbers_are_not_used(monkeypatch, loss, gradient):
    """So many times the right ones."""

    def solve_anchors(method, context, logits, class_targets, ranking_batch, loss_out, gradient_out):
        right = problem.solve_anchors(method, logits.asnumpy(), class_targets.asnumpy())
        loss_out[:] = loss * right[0]
        gradient_out[:] = mx.nd.array(gradient * right[1])

    told = []
    monkeypatch.setattr(rtc, "solve_anchors", solve_anchors)
    monkeypatch.setattr(rtc, "_tell_fallback", told.append)
    rtc._is_available.cache_clear()
    is_right = loss == gradient == 1
    assert rtc.is_available(mx.cpu()) is is_right
    rtc._is_available.cache_clear()
    assert ["wrong numbers on cpu(0)" in reason for reason in told] == [True] * (not is_right)


def test_a_gpu_whose_memory_is_full_may_have_the_kernels_all_the_same(monkeypatch):
    def solve_anchors(*_):
        raise mx.MXNetError("Check failed: cudaMalloc retry failed: out of memory")

    monkeypatch.setattr(rtc, "solve_anchors", solve_anchors)
    rtc._is_available.cache_clear()
    for _ in range(2):
        with pytest.raises(mx.MXNetError, match="out of memory"):
            rtc.is_available(mx.cpu())


@pytest.mark.parametrize(
    ("method", "scope", "dtype", "size", "reason"),
    [
        (ap_loss(), "all", "float32", 6, ""),
        (auc_loss(), "all", "float32", MAX_SCORES, ""),
        (structured_hinge_loss, "all", "float32", 6, "only AP-loss and AUC-loss"),
        (ap_loss(), "class", "float32", 6, "rankings by class"),
        (ap_loss(), "all", "float64", 6, "logits of float64"),
        (ap_loss(), "all", "float32", MAX_SCORES + 1, f"number {MAX_SCORES + 1} scores"),
    ],
)
def test_what_has_no_kernels_is_for_the_host(monkeypatch, method, scope, dtype, size, reason):
    """On a GPU that works; on a CPU, nothing is for the kernels."""
    told = []
    monkeypatch.setattr(rtc, "is_available", lambda context: True)
    monkeypatch.setattr(rtc, "_tell_fallback", told.append)
    monkeypatch.delenv(rtc.SWITCH, raising=False)
    logits = SimpleNamespace(dtype=np.dtype(dtype).type, size=size)
    assert rtc.can_solve(method, scope, CPUThatSaysGPU("cpu"), logits) is (not reason)
    assert [reason in text for text in told] == [True] * bool(reason)
    assert not rtc.can_solve(method, scope, mx.cpu(), logits)
