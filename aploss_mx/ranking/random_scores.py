"""Draw random scores as a detector's are early, midway and late in training, to measure on."""

from __future__ import annotations

import numpy as np

# Mean and deviation of the scores of negatives and of positives, as training goes on.
REGIMES = {
    "early": ((0.0, 0.1), (0.0, 0.1)),
    "mid": ((-2.0, 1.0), (0.0, 1.0)),
    "late": ((-4.0, 1.0), (2.0, 1.0)),
}

# Logits (B, N, K) and positives; voc and coco: 8 images of 512x512, 32,736 anchors each, times 20 or 80 classes.
BATCHES = {"small": ((2, 5_000, 20), 100), "voc": ((8, 32_736, 20), 600), "coco": ((8, 32_736, 80), 2_000)}


def random_scores(size: int, positives: int, regime: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 scores and int8 labels of `size` entries, the positives at random places."""
    logits, class_targets = random_batch((1, size, 1), positives, regime, seed)
    return logits.reshape(-1), class_targets.reshape(-1).astype(np.int8)


def random_batch(shape: tuple[int, int, int], positives: int, regime: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of `shape` (B, N, K), and class targets (B, N) with `positives` anchors of random classes."""
    rng = np.random.default_rng(seed)
    (negative_mean, negative_deviation), (positive_mean, positive_deviation) = REGIMES[regime]
    logits = rng.standard_normal(shape, np.float32) * np.float32(negative_deviation) + np.float32(negative_mean)
    class_targets = np.zeros(shape[:2], np.float32)
    anchors = rng.choice(class_targets.size, positives, replace=False)
    classes = rng.integers(shape[2], size=positives)
    logits.reshape(-1, shape[2])[anchors, classes] = rng.normal(positive_mean, positive_deviation, positives)
    class_targets.reshape(-1)[anchors] = classes + 1
    return logits, class_targets
