"""Scores and widths as large and small as they come: right numbers, or a refusal."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from aploss_mx.config import ConfigError, Recipe
from aploss_mx.ranking import reference
from aploss_mx.ranking.exact import ap_loss, ap_loss_and_grad, auc_loss_and_grad
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.ranking.smooth_ap import smooth_ap_loss_and_grad
from aploss_mx.ranking.structured_hinge import structured_hinge_loss_and_grad

LOSSES = [ap_loss_and_grad, auc_loss_and_grad, smooth_ap_loss_and_grad, structured_hinge_loss_and_grad]


def random_problem(seed: int, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, size), rng.choice([-1, 0, 0, 0, 1], size)


def exact_auc_loss(scores, labels, delta) -> float:
    """The mean of the ramps of all pairs, in fractions."""
    above = [
        min(Fraction(1), max(Fraction(0), (Fraction(t) - Fraction(s)) / (2 * Fraction(delta)) + Fraction(1, 2)))
        for s in scores[labels == 1].tolist()
        for t in scores[labels == 0].tolist()
    ]
    return float(sum(above) / len(above))


@pytest.mark.parametrize("loss_and_grad", LOSSES[:2])
@pytest.mark.parametrize("power", [-330, -100, 100, 330])
def test_a_change_of_units_changes_nothing(loss_and_grad, power):
    scores, labels = random_problem(0)
    expected = loss_and_grad(scores, labels, 0.5)
    loss, grad = loss_and_grad(np.ldexp(scores, power), labels, float(np.ldexp(0.5, power)))
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("delta", [1e-100, 1e-20, 1.0, 1e20, 1e100])
@pytest.mark.parametrize("scale", [1e-310, 1e-100, 1e-10, 1.0, 1e100, 1e149])
def test_any_scale_beside_any_width(scale, delta):
    scores, labels = random_problem(1)
    scores = scores * scale
    scores[:4], labels[:4] = scores[4], [0, 1, 0, 1]  # ties
    with np.errstate(all="raise", under="ignore"):
        loss, grad = ap_loss_and_grad(scores, labels, delta)
        auc, _ = auc_loss_and_grad(scores, labels, delta)
    expected = reference.ap_loss_and_grad(scores, labels, delta)
    assert loss == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-5, atol=1e-7)
    assert auc == pytest.approx(exact_auc_loss(scores, labels, delta), rel=1e-9)


@pytest.mark.parametrize("delta", [1e-100, 1e-17, 1.2e-16, 3e-16, 1e-15, 1e-12, 1e-6])
@pytest.mark.parametrize("score", [0.0, 1.0, -1.0, 1.5, np.nextafter(2, 1), 2.0**40, -(2.0**-30)])
def test_equal_scores_count_half_however_narrow_the_ramp(score, delta):
    """Powers of two have a narrower gap on one side."""
    scores, labels = np.array([score] * 2), np.array([1, 0])
    for of_loss, expected in ((ap_loss_and_grad, 0.5 / 1.5), (auc_loss_and_grad, 0.5)):
        loss, grad = of_loss(scores, labels, delta)
        assert loss == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(grad, [-expected, expected], rtol=1e-6)


@pytest.mark.parametrize("loss_and_grad", LOSSES)
def test_the_largest_scores(loss_and_grad):
    scores, labels = np.array([1e150, -1e150, 0.0, 1.0, -1e150, 1e150]), np.array([1, 0, 1, 0, 1, 0])
    loss, grad = loss_and_grad(scores, labels)
    assert np.isfinite(loss) and np.isfinite(grad).all()


@pytest.mark.parametrize("loss_and_grad", [*LOSSES, reference.ap_loss_and_grad])
def test_scores_beyond_are_refused_unless_ignored(loss_and_grad):
    for huge in (1e308, -1e308, 1.01e150):
        with pytest.raises(ValueError, match=r"scores must lie within ±1e\+150"):
            loss_and_grad(np.array([huge, 0.0]), np.array([1, 0]))
        loss, _ = loss_and_grad(np.array([huge, 0.0, 1.0]), np.array([-1, 0, 1]))
        assert np.isfinite(loss)


def test_an_operators_scores_beyond_are_as_those_that_are_not_finite():
    logits = np.array([[[1e308], [0.0], [1.0]]])
    loss, grad = solve_anchors(ap_loss(), logits, np.array([[1, 0, -1]]))
    assert np.isnan(loss) and np.isnan(grad[0, :2]).all() and grad[0, 2, 0] == 0


@pytest.mark.parametrize("width", [1e-310, 1e-101, 1.1e100, 1e308, 0.0, -1.0, np.nan, np.inf])
def test_widths_beyond_are_refused(width):
    scores, labels = random_problem(2)
    for loss_and_grad, name in zip(LOSSES[:3], ("delta", "delta", "temperature")):
        least = "1e-28" if name == "temperature" else "1e-100"
        with pytest.raises(ValueError, match=f"{name}.* must be a positive number, {least} to 1e\\+100"):
            loss_and_grad(scores, labels, width)
    for settings in ({"delta": width}, {"loss": "smooth-ap", "temperature": width}):
        with pytest.raises(ConfigError, match="must be a positive number"):
            Recipe.from_dict(settings)
