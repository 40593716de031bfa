"""RetinaNet's matching rules, one by one and against a loop in exact fractions."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aploss_mx.geometry import boxes as geometry_boxes
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.matcher import IGNORED, NEGATIVE, match_anchors

EDGES = st.integers(0, 12)


@st.composite
def whole_number_boxes(draw, min_size: int):
    """float32 (M, 4) on a small grid, so that ties and IoUs of exactly 0.4 and 0.5 are common."""
    boxes = []
    for _ in range(draw(st.integers(min_size, 6))):
        x, y = draw(EDGES), draw(EDGES)
        boxes.append([x, y, x + draw(st.integers(1, 8)), y + draw(st.integers(1, 8))])
    return np.array(boxes, np.float32).reshape(-1, 4)


def exact_iou(box, other) -> Fraction:
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other)]
    return Fraction(int(width * height), int(sum(areas) - width * height))


def match_in_a_loop(anchors, boxes) -> list[int]:
    matches = []
    best_of_box = [max(exact_iou(box, anchor) for anchor in anchors) for box in boxes]
    for anchor in anchors:
        best, best_box, is_best_of_some_box = Fraction(0), 0, False
        for index, box in enumerate(boxes):
            iou = exact_iou(box, anchor)
            if iou > best:
                best, best_box = iou, index
            if iou > 0 and iou == best_of_box[index]:
                is_best_of_some_box = True
        if is_best_of_some_box or best >= Fraction(1, 2):
            matches.append(best_box)
        elif best < Fraction(2, 5):
            matches.append(NEGATIVE)
        else:
            matches.append(IGNORED)
    return matches


def square_with_iou(tenths: int) -> list[float]:
    """A part of [0, 0, 10, 10] whose IoU with it is `tenths` / 10."""
    return [0, 0, 10, tenths]


@given(whole_number_boxes(1), whole_number_boxes(0))
def test_equals_the_loop(anchors, boxes):
    matches = match_anchors(anchors, boxes)
    assert matches.dtype == np.int64
    assert matches.tolist() == match_in_a_loop(anchors.tolist(), boxes.tolist())


@given(whole_number_boxes(1), whole_number_boxes(0), st.randoms(use_true_random=False))
def test_order_of_anchors_does_not_matter(anchors, boxes, random):
    order = list(range(len(anchors)))
    random.shuffle(order)
    np.testing.assert_array_equal(match_anchors(anchors[order], boxes), match_anchors(anchors, boxes)[order])


def test_ignore_band():
    box = np.array([[0, 0, 10, 10]], np.float32)
    anchors = np.array([square_with_iou(tenths) for tenths in (10, 6, 5, 4, 3, 1)], np.float32)
    assert match_anchors(anchors, box).tolist() == [0, 0, 0, IGNORED, NEGATIVE, NEGATIVE]
    just_inside = np.array([[0, 0, 10, 10], [0, 0, 10, 4.99], [0, 0, 10, 3.99]], np.float32)
    assert match_anchors(just_inside, box).tolist() == [0, IGNORED, NEGATIVE]


def test_best_anchor_is_positive_however_little_it_overlaps():
    box = np.array([[0, 0, 10, 10]], np.float32)
    anchors = np.array([[9, 9, 19, 19], [8, 8, 18, 18], [30, 30, 40, 40]], np.float32)
    assert match_anchors(anchors, box).tolist() == [NEGATIVE, 0, NEGATIVE]


def test_all_anchors_that_tie_for_best_are_positive():
    box = np.array([[10, 10, 20, 20]], np.float32)
    anchors = np.array([[2, 10, 12, 20], [18, 10, 28, 20], [10, 2, 20, 12], [1, 10, 11, 20]], np.float32)
    assert match_anchors(anchors, box).tolist() == [0, 0, 0, NEGATIVE]


def test_best_anchor_of_a_box_takes_another_box_that_it_overlaps_more():
    small, large = [8, 0, 10, 10], [0, 0, 8, 10]
    shared = [0, 0, 10, 10]  # IoU 0.2 with `small`, whose best it is, 0.8 with `large`
    anchors = np.array([shared, [0, 0, 8, 10], [50, 50, 60, 60]], np.float32)
    assert match_anchors(anchors, np.array([small, large], np.float32)).tolist() == [1, 1, NEGATIVE]


def test_forced_anchor_takes_the_other_box_even_below_every_threshold():
    first, second = [0, 0, 1, 10], [1, 0, 4, 10]
    shared = [0, 0, 10, 10]  # IoU 0.1 with `first`, whose best it is, 0.3 with `second`
    anchors = np.array([shared, [1, 0, 4, 9]], np.float32)
    assert match_anchors(anchors, np.array([first, second], np.float32)).tolist() == [1, 1]


def test_box_that_no_anchor_overlaps_makes_no_positive():
    anchors = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)
    assert match_anchors(anchors, np.array([[40, 40, 50, 50]], np.float32)).tolist() == [NEGATIVE, NEGATIVE]


def test_no_boxes():
    matches = match_anchors(np.array([[0, 0, 10, 10]] * 3, np.float32), np.zeros((0, 4), np.float32))
    assert matches.dtype == np.int64 and matches.tolist() == [NEGATIVE] * 3


@pytest.mark.parametrize("pairs", [1, 7, 100, 1000])
@given(anchors=whole_number_boxes(1), boxes=whole_number_boxes(0))
def test_chunks_of_boxes_change_nothing(pairs, anchors, boxes):
    expected, overlap = match_anchors(anchors, boxes), pairwise_iou(boxes, anchors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry_boxes, "PAIRS", pairs)
        np.testing.assert_array_equal(match_anchors(anchors, boxes), expected)
        np.testing.assert_array_equal(pairwise_iou(boxes, anchors), overlap)


def test_a_picture_of_many_objects_takes_no_gigabytes():
    corners = np.random.default_rng(0).uniform(0, 240, (1000, 2))
    boxes = np.hstack([corners, corners + 12]).astype(np.float32)
    anchors = make_anchors(256, 256)
    tracemalloc.start()
    matches = match_anchors(anchors, boxes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (matches >= 0).any() and peak < 5.5e7  # all pairs at once: 0.3 GB; all their IoUs: 66 MB
