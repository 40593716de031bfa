"""The best anchor of each box, found without going through all."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.geometry.anchors import PAPERS, AnchorShapes, make_anchors
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.coverage import best_anchor_overlaps


@settings(deadline=None)
@given(
    st.sampled_from([(64, 64), (96, 160), (320, 320)]),
    st.sampled_from([PAPERS, AnchorShapes(1.5, (1.0,), (0.2, 1.0, 7.0, 3.0))]),
    st.integers(0, 2**32 - 1),
)
def test_the_best_of_all_anchors(shape, shapes, seed):
    height, width = shape
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, [width, height], (20, 2))
    boxes = np.concatenate([corners, corners + rng.exponential(rng.choice([4, 30, 200]), (20, 2)) + 0.1], axis=1)
    expected = pairwise_iou(boxes, make_anchors(height, width, shapes).astype(np.float64)).max(axis=1)
    # `make_anchors` rounds to float32, which tells on the smallest.
    np.testing.assert_allclose(best_anchor_overlaps(boxes, height, width, shapes), expected, atol=1e-5)


def test_an_anchor_covers_itself():
    anchors = make_anchors(64, 96)
    np.testing.assert_allclose(best_anchor_overlaps(anchors, 64, 96), 1, atol=1e-6)


def test_many_boxes_take_little_memory_and_are_covered_as_few():
    corners = np.random.default_rng(0).uniform(0, 64, (20_000, 2))
    boxes = np.concatenate([corners, corners + 9], axis=1)
    tracemalloc.start()
    try:
        overlaps = best_anchor_overlaps(boxes, 64, 96)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8e6  # all at once 11 MB
    np.testing.assert_array_equal(overlaps[::1000], best_anchor_overlaps(boxes[::1000], 64, 96))


def test_no_boxes():
    assert best_anchor_overlaps(np.zeros((0, 4)), 64, 64).shape == (0,)


def test_sides_that_are_no_multiple_of_32_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        best_anchor_overlaps(np.zeros((1, 4)), 60, 64)
