"""The error-driven update for any activation, the paper's Observation 1, and the step functions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax

from aploss_mx.ranking import exact
from aploss_mx.ranking.error_driven import ap_terms, auc_terms, augmented_step, error_driven_update, softmax_terms
from aploss_mx.ranking.steps import heaviside, logistic, piecewise_step, smoothstep


@st.composite
def problems(draw):
    size = draw(st.integers(1, 30))
    elements = draw(st.sampled_from([st.integers(-8, 8).map(lambda n: n / 4), st.floats(-20, 20)]))
    scores = draw(hnp.arrays(np.float64, size, elements=elements))
    return scores, draw(hnp.arrays(np.int8, size, elements=st.sampled_from([-1, 0, 0, 1])))


def assert_close(result, expected):
    (loss, grad), (expected_loss, expected_grad) = result, expected
    assert type(loss) is float
    assert grad.dtype == np.float64
    assert loss == pytest.approx(expected_loss, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-6, atol=1e-9)


def negatives_of(problem):
    return max(1, int(np.sum(problem[1] == 0)))  # for none, see the test of its own


def heaviside_update(scores, labels, own):
    """Eqs. 3, 7 and 13 pair by pair; `own` is the denominator of positive i's terms."""
    loss, grad, positives = 0.0, np.zeros(scores.shape), np.flatnonzero(labels == 1)
    for i in positives:
        for j in np.flatnonzero(labels == 0):
            term = float(scores[j] >= scores[i]) / own(i) / len(positives)
            loss += term
            grad[j] += term
            grad[i] -= term
    return loss, grad


# --- AP and AUC ---


@settings(deadline=None, max_examples=100)
@given(problems(), st.sampled_from([0.25, 1.0]) | st.floats(0.05, 4))
def test_the_papers_step_gives_the_exact_losses(problem, delta):
    step = partial(piecewise_step, delta=delta)
    expected = exact.ap_loss_and_grad(*problem, delta=delta, interpolated=False)
    assert_close(error_driven_update(*problem, ap_terms(step)), expected)
    expected = exact.auc_loss_and_grad(*problem, delta=delta)
    assert_close(error_driven_update(*problem, auc_terms(negatives_of(problem), step)), expected)


@settings(deadline=None, max_examples=100)
@given(problems())
def test_heaviside_is_the_default_step(problem):
    scores, labels = problem
    valid = scores[labels != -1]
    expected = heaviside_update(scores, labels, lambda i: np.sum(valid >= scores[i]))
    assert_close(error_driven_update(scores, labels, ap_terms()), expected)
    negatives = negatives_of(problem)
    expected = heaviside_update(scores, labels, lambda i: negatives)
    assert_close(error_driven_update(scores, labels, auc_terms(negatives)), expected)


@pytest.mark.parametrize("activation", [ap_terms(), auc_terms(0), softmax_terms, augmented_step])
@pytest.mark.filterwarnings("error")
def test_without_a_negative_there_is_nothing_to_update(activation):
    loss, grad = error_driven_update(np.array([0.5, -2.0, 9.0]), np.array([1, 1, -1]), activation)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("activation", [ap_terms(), auc_terms(2), softmax_terms, augmented_step])
@pytest.mark.parametrize("labels", [[0, 0, -1], [-1, -1, -1]])
@pytest.mark.filterwarnings("error")
def test_without_a_positive_there_is_nothing_to_update(labels, activation):
    loss, grad = error_driven_update(np.array([0.5, -2.0, 9.0]), np.array(labels), activation)
    assert loss == 0
    assert not grad.any()


# --- Observation 1 ---


@st.composite
def classifications(draw):
    """Class scores and the true class: one positive among negatives."""
    scores = draw(hnp.arrays(np.float64, st.integers(2, 20), elements=st.floats(-30, 30)))
    return scores, draw(st.integers(0, len(scores) - 1))


@settings(deadline=None, max_examples=100)
@given(classifications())
def test_softmax_terms_give_the_gradient_of_cross_entropy(problem):
    scores, true = problem
    onehot = (np.arange(len(scores)) == true).astype(np.int8)
    loss, grad = error_driven_update(scores, onehot, softmax_terms)
    probabilities = np.exp(log_softmax(scores))
    np.testing.assert_allclose(grad, probabilities - onehot, rtol=1e-12, atol=1e-15)
    assert loss == pytest.approx(probabilities[onehot == 0].sum(), rel=1e-12)


@pytest.mark.parametrize("activation", [ap_terms(), auc_terms(3), softmax_terms, augmented_step])
def test_ignored_scores_get_and_give_nothing(activation):
    scores, labels = np.array([0.3, 1.0, 0.1, -0.5, 0.2, 9.0]), np.array([1, 0, 0, 1, 0, -1])
    loss, grad = error_driven_update(scores, labels, activation)
    expected_loss, expected_grad = error_driven_update(scores[:-1], labels[:-1], activation)
    assert loss == expected_loss > 0
    np.testing.assert_array_equal(grad, [*expected_grad, 0])


# --- the steps ---

STEPS = {"piecewise": piecewise_step, "smoothstep": smoothstep, "logistic": logistic}
DELTAS = st.floats(0.05, 5)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(STEPS)), DELTAS, hnp.arrays(np.float64, 20, elements=st.floats(-20, 20)))
def test_steps_rise_from_0_to_1_and_are_symmetric(name, delta, x):
    values = STEPS[name](np.sort(x), delta)
    assert (np.diff(values) >= -1e-15).all()
    assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_allclose(STEPS[name](x, delta) + STEPS[name](-x, delta), 1, rtol=1e-14)
    assert STEPS[name](np.zeros(1), delta)[0] == 0.5


@pytest.mark.parametrize("name", STEPS)
def test_a_narrow_step_is_heaviside(name):
    x = np.array([-1e3, -1.0, -0.01, 0.01, 1.0, 1e3])
    np.testing.assert_allclose(STEPS[name](x, 1e-4), heaviside(x), atol=1e-12)


def test_heaviside_is_1_from_0_on():
    np.testing.assert_array_equal(
        heaviside(np.array([-np.inf, -1e-300, -0.0, 0.0, 1e-300, np.inf])), [0, 0, 1, 1, 1, 1]
    )


@pytest.mark.parametrize("delta", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("name, steepness", [("piecewise", 1), ("smoothstep", 1.5), ("logistic", 1)])
def test_steepness_in_the_middle(name, steepness, delta):
    low, high = STEPS[name](np.array([-1e-4, 1e-4]), delta)
    assert (high - low) / 2e-4 == pytest.approx(steepness / (2 * delta), rel=1e-5)


@pytest.mark.parametrize("step", [piecewise_step, smoothstep])
def test_ramps_end_at_delta(step):
    np.testing.assert_array_equal(step(np.array([-9.0, -2.0, 2.0, 9.0]), 2.0), [0, 0, 1, 1])
    inside = step(np.array([-1.9, 1.9]), 2.0)
    assert 0 < inside[0] < 0.05
    assert 0.95 < inside[1] < 1
