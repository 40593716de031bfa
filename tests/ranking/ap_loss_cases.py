"""Scores and labels for tests of the AP-loss, and how near its results must be."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

RELATIVE = 1e-6
EPSILON = np.finfo(np.float64).eps
DELTAS = st.sampled_from([0.05, 0.25, 0.5, 1.0, 2.0, 4.0]) | st.floats(0.05, 4.0)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


def assert_close(result, expected, rounding=0.0):
    """Relative L1 distance of loss and gradient within 1e-6, beyond `rounding` of either."""
    (loss, grad), (expected_loss, expected_grad) = result, expected
    expected_grad = np.asarray(expected_grad, np.float64)
    assert grad.shape == expected_grad.shape
    assert abs(loss - expected_loss) <= RELATIVE * expected_loss + rounding
    distance = np.abs(grad - expected_grad).sum(dtype=np.float64)
    assert distance <= RELATIVE * np.abs(expected_grad).sum() + rounding


def score_rounding(scores, labels, delta):
    """What float64 rounding of the scores can do to a loss: the step's slope is 1/(2 delta)."""
    valid = np.abs(scores[labels != -1].astype(np.float64))
    return 4 * EPSILON * valid.size * (1 + valid.max(initial=0) / delta)


def random_problem(seed, size=200, dtype=np.float64):
    """Scores and labels of all three kinds, with positives a little above the rest."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([-1, 0, 0, 0, 1], np.int8), size)
    return (rng.normal(size=size) + 0.5 * (labels == 1)).astype(dtype), labels


LAYOUTS = {
    "1-D": lambda a: a,
    "2-D": lambda a: a.reshape(6, -1),
    "3-D": lambda a: a.reshape(2, 3, -1),
    "every second": lambda a: np.repeat(a, 2)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "Fortran order": lambda a: np.asfortranarray(a.reshape(2, 3, -1)),
    "swapped axes": lambda a: np.ascontiguousarray(a.reshape(2, 3, -1).transpose(1, 2, 0)).transpose(2, 0, 1),
}
