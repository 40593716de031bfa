"""Random scores have the means and deviations of their regime, and the positives that were asked for."""

from __future__ import annotations

import pytest

from aploss_mx.ranking.random_scores import REGIMES, random_batch, random_scores

# Mean and deviation of negatives and of positives, as the benchmark's --help has them.
DESCRIBED = {"early": ((0, 0.1), (0, 0.1)), "mid": ((-2, 1), (0, 1)), "late": ((-4, 1), (2, 1))}


@pytest.mark.parametrize("regime", REGIMES)
def test_scores_of_negatives_and_positives_are_of_their_regime(regime):
    logits, class_targets = random_batch((2, 10_000, 4), 5_000, regime, 0)
    positive = class_targets[..., None] == range(1, 5)
    assert (class_targets > 0).sum() == positive.sum() == 5_000
    scores, labels = random_scores(80_000, 5_000, regime, 0)
    assert (labels == 1).sum() == 5_000
    for drawn, which in ((logits, positive), (scores, labels == 1)):
        for part, (mean, deviation) in zip((drawn[~which], drawn[which]), DESCRIBED[regime]):
            assert part.mean() == pytest.approx(mean, abs=0.06 * deviation)
            assert part.std() == pytest.approx(deviation, rel=0.05)
