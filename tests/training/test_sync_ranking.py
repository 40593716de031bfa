"""One ranking over several devices' batches: that of the joined batch, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_training import tiny_recipe, tiny_run

from aploss_mx.config import ConfigError
from aploss_mx.ranking.exact import ap_loss, auc_loss
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.training.sync_ranking import rank_together

METHODS = {"ap": ap_loss(), "plain ap": ap_loss(0.5, False), "auc": auc_loss(2.0)}


@st.composite
def split_batches(draw):
    """A batch of many ties, and how many of its images each device has."""
    images = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    shape = (sum(images), draw(st.integers(1, 8)), draw(st.integers(1, 3)))
    scores = st.integers(-4, 4).map(lambda number: number / 2) | st.floats(-5, 5, width=32)
    logits = draw(hnp.arrays(np.float32, shape, elements=scores))
    return logits, draw(hnp.arrays(np.int64, shape[:2], elements=st.integers(-1, shape[2]))), np.cumsum(images)[:-1]


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(batch=split_batches())
def test_parts_are_ranked_as_one_batch(method, batch):
    logits, class_targets, ends = batch
    expected_loss, expected_grad = solve_anchors(METHODS[method], logits, class_targets)
    loss, grads = rank_together(METHODS[method], np.split(logits, ends), np.split(class_targets, ends))
    assert loss == pytest.approx(expected_loss, rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(np.concatenate(grads), expected_grad, rtol=1e-6, atol=1e-12)


def test_what_is_not_finite_anywhere_spoils_all():
    logits = [np.zeros((1, 4, 2), np.float32), np.full((1, 4, 2), np.inf, np.float32)]
    class_targets = np.array([[-1, 1, 0, 0]])  # what is ignored stays unspoilt
    loss, grads = rank_together(ap_loss(), logits, [class_targets] * 2)
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(grads), np.broadcast_to(class_targets[..., None] >= 0, np.shape(grads)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ranking_batch": 2}, "ranks all together"),
        ({"ranking_scope": "class"}, "ranks all together"),
        ({"loss": "focal"}, "of no use to loss = 'focal'"),
        ({"loss": "hinge-ap"}, "of no use to loss = 'hinge-ap'"),
    ],
)
def test_settings_that_do_not_go_together(settings, told):
    with pytest.raises(ConfigError, match=told):
        tiny_recipe(sync_ranking=True, **settings)


def test_on_one_device_nothing_changes_and_the_report_says_what_is_ranked(shapes, tmp_path, capsys):
    losses = []
    for sync in (False, True):
        run = tiny_run(shapes, tmp_path / str(sync), cpus=1 + sync, sync_ranking=sync)
        run.log.close()
    assert "2 device(s) of 2 images a step, ranked in groups of 4" in capsys.readouterr().out
    for sync in (False, True):
        run = tiny_run(shapes, tmp_path / f"one {sync}", sync_ranking=sync)
        losses.append(run.update(next(iter(run.loader)), 0.01))
        run.log.close()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
