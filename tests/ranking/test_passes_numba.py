"""The compiled passes over the negatives: the same bits as NumPy's, from several threads, too."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aploss_mx.ranking import exact, passes_numba
from aploss_mx.ranking.passes_numba import CompiledPasses
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.ranking.random_scores import REGIMES, random_batch

METHODS = {"ap": exact.ap_loss(), "plain ap": exact.ap_loss(0.1, False), "auc": exact.auc_loss(2.0)}


def assert_same_bits(method, logits, class_targets, ranking_batch=0):
    methods = METHODS[method], replace(METHODS[method], compiled=False)
    results = [solve_anchors(one, logits, class_targets, ranking_batch) for one in methods]
    (loss, grad), (expected_loss, expected_grad) = results
    assert loss == expected_loss
    assert grad.tobytes() == expected_grad.tobytes()


@st.composite
def batches(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 4)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = st.integers(-6, 6).map(lambda number: number / 2) | st.floats(-1e6, 1e6, width=32)
    logits = draw(hnp.arrays(dtype, shape, elements=scores))
    return logits, draw(hnp.arrays(np.int64, shape[:2], elements=st.integers(-1, shape[2])))


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=100)
@given(batch=batches())
def test_small_batches(method, batch):
    assert_same_bits(method, *batch)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("ignored", [0, 500])
def test_several_chunks(method, regime, ignored):
    logits, class_targets = random_batch((2, 3000, 20), 300, regime, seed=0)
    negatives = np.flatnonzero(class_targets == 0)
    class_targets.flat[negatives[:ignored]] = -1
    assert_same_bits(method, logits, class_targets)
    assert_same_bits(method, logits, class_targets, ranking_batch=1)


@pytest.mark.parametrize("method", METHODS)
def test_many_breakpoints_in_one_cell_of_the_grid(method):
    """One positive far away makes the cells so wide that all others share one."""
    logits, class_targets = random_batch((1, 2000, 4), 300, "mid", seed=0)
    image, anchor = np.argwhere(class_targets > 0)[0]
    logits[image, anchor, int(class_targets[image, anchor]) - 1] = 1e6
    assert_same_bits(method, logits, class_targets)


def test_statistics_in_several_waves(monkeypatch):
    monkeypatch.setattr(passes_numba, "STATISTICS_BYTES", 1)
    assert_same_bits("ap", *random_batch((2, 3000, 20), 300, "mid", seed=0))


def test_several_threads_at_once():
    batches = [random_batch((2, 1000, 20), 50, "mid", seed) for seed in range(8)]
    alone = [solve_anchors(METHODS["ap"], *batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: solve_anchors(METHODS["ap"], *batch), batches * 5))
    for (loss, grad), (expected_loss, expected_grad) in zip(together, alone * 5):
        assert loss == expected_loss
        np.testing.assert_array_equal(grad, expected_grad)


def test_no_other_types_are_compiled():
    """So that numba's cache is the same, whichever of several processes compiles first."""
    before = [len(function.signatures) for function in (passes_numba._accumulate, passes_numba._write)]
    scores = np.random.default_rng(0).normal(size=(40, 5))
    labels = (scores > 1).astype(int)
    frozen = scores.copy()
    frozen.flags.writeable = False
    for other in (frozen, scores[::-1].copy()[::-1], np.asfortranarray(scores), scores.astype(np.float32)):
        exact.ap_loss_and_grad(other, labels)
    assert (
        [len(function.signatures) for function in (passes_numba._accumulate, passes_numba._write)] == before == [2, 2]
    )


@pytest.mark.parametrize(("dtype", "compiled"), [(np.float32, True), (np.float64, True), (np.float16, False)])
def test_scores_of_types_that_numba_knows_have_compiled_passes(dtype, compiled, monkeypatch):
    asked = []
    monkeypatch.setattr(exact, "fastest_passes", lambda: asked.append(dtype) or CompiledPasses)
    exact.ap_loss_and_grad(np.array([1, 0], dtype), [1, 0])
    assert asked == [dtype] * compiled


def test_without_numba_numpy_serves():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from aploss_mx.ranking import exact\n"
        "print(exact.fastest_passes().__name__, exact.ap_loss_and_grad([0.0, 1.0], [1, 0])[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    passes, loss = done.stdout.split()
    assert passes == "NumPyPasses"
    assert float(loss) == exact.ap_loss_and_grad([0.0, 1.0], [1, 0])[0]
    assert exact.fastest_passes() is CompiledPasses
