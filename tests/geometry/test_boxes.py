"""Areas, overlaps and clipping, against fractions counted by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aploss_mx.geometry.boxes import box_areas, clip_boxes, pairwise_iou

CORNERS = st.integers(-20, 20)


@st.composite
def whole_number_boxes(draw, max_size=6):
    """float32 (M, 4), small whole numbers, some without an area."""
    boxes = []
    for _ in range(draw(st.integers(0, max_size))):
        (x1, x2), (y1, y2) = sorted([draw(CORNERS), draw(CORNERS)]), sorted([draw(CORNERS), draw(CORNERS)])
        boxes.append([x1, y1, x2, y2])
    return np.array(boxes, np.float32).reshape(-1, 4)


def exact_iou(box, other) -> Fraction:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = ([int(corner) for corner in corners] for corners in (box, other))
    intersection = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return Fraction(intersection, union) if union else Fraction(0)


def test_area_has_no_extra_pixel():
    boxes = np.array([[0, 0, 3, 5], [1.5, 2, 2, 4], [7, 7, 7, 9]], np.float32)
    np.testing.assert_array_equal(box_areas(boxes), [15, 1, 0])


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ([0, 0, 4, 4], 1),
        ([2, 0, 6, 4], 1 / 3),
        ([1, 1, 3, 3], 1 / 4),
        ([4, 0, 8, 4], 0),  # a common edge
        ([9, 9, 12, 12], 0),
        ([2, 2, 2, 4], 0),  # no area
    ],
)
def test_iou_of_a_square_with(other, iou):
    square = np.array([[0, 0, 4, 4]], np.float32)
    assert pairwise_iou(square, np.array([other], np.float32)) == np.float32(iou)


@given(whole_number_boxes(), whole_number_boxes())
def test_iou_equals_the_exact_fraction(boxes, others):
    iou = pairwise_iou(boxes, others)
    assert iou.shape == (len(boxes), len(others)) and iou.dtype == np.float32
    for row, box in enumerate(boxes):
        for column, other in enumerate(others):
            assert iou[row, column] == np.float32(exact_iou(box, other))


def test_iou_of_two_empty_boxes_is_zero():
    empty = np.array([[3, 3, 3, 3]], np.float32)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(pairwise_iou(empty, empty), [[0]])


def test_clipping_cuts_at_the_borders_and_changes_nothing_inside():
    boxes = np.array([[-3, -1, 5, 6], [1, 2, 3, 4], [8, 5, 99, 99], [20, -9, 30, -2]], np.float32)
    before = boxes.copy()
    clipped = clip_boxes(boxes, width=10, height=6)
    np.testing.assert_array_equal(clipped, [[0, 0, 5, 6], [1, 2, 3, 4], [8, 5, 10, 6], [10, 0, 10, 0]])
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(boxes, before)
    np.testing.assert_array_equal(clip_boxes(clipped, 10, 6), clipped)
