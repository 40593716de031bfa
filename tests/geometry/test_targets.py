"""Class and box targets say what the matcher found, and decode back to the objects."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.coder import decode, encode
from aploss_mx.geometry.matcher import IGNORED, NEGATIVE, match_anchors
from aploss_mx.geometry.targets import assign_targets

SIZE = 96


@st.composite
def objects(draw):
    """Boxes of at least 4 pixels a side in a picture of 96 × 96, and their labels of 5."""
    boxes, labels = [], []
    for _ in range(draw(st.integers(0, 5))):
        width, height = draw(st.integers(4, SIZE)), draw(st.integers(4, SIZE))
        x, y = draw(st.integers(0, SIZE - width)), draw(st.integers(0, SIZE - height))
        boxes.append([x, y, x + width, y + height])
        labels.append(draw(st.integers(0, 4)))
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


def test_by_hand():
    anchors = np.array([[0, 0, 10, 10], [0, 0, 10, 4.5], [0, 0, 10, 2], [20, 20, 30, 30]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [20, 22, 30, 32]], np.float32)
    class_targets, box_targets = assign_targets(anchors, boxes, np.array([6, 0]))
    assert class_targets.tolist() == [7, -1, 0, 1]
    np.testing.assert_allclose(box_targets, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]], atol=1e-6)


@given(objects())
@settings(deadline=None)
def test_each_anchor_says_what_the_matcher_found(scene):
    boxes, labels = scene
    anchors = make_anchors(SIZE, SIZE)
    class_targets, box_targets = assign_targets(anchors, boxes, labels)
    assert class_targets.shape == (len(anchors),) and box_targets.shape == (len(anchors), 4)
    assert class_targets.dtype == box_targets.dtype == np.float32
    matches = match_anchors(anchors, boxes)
    for index, match in enumerate(matches):
        if match in (NEGATIVE, IGNORED):
            assert class_targets[index] == {NEGATIVE: 0, IGNORED: -1}[match]
            assert not box_targets[index].any()
        else:
            assert class_targets[index] == labels[match] + 1
            np.testing.assert_array_equal(box_targets[index], encode(boxes[match], anchors[index]))


@given(objects())
@settings(deadline=None)
def test_targets_decode_to_the_objects(scene):
    boxes, labels = scene
    anchors = make_anchors(SIZE, SIZE)
    class_targets, box_targets = assign_targets(anchors, boxes, labels)
    positive = class_targets > 0
    found = np.column_stack([decode(box_targets[positive], anchors[positive]), class_targets[positive] - 1])
    wanted = np.column_stack([boxes, labels]).astype(np.float32)
    distances = np.abs(found[:, None] - wanted[None]).max(axis=2)
    assert (distances.min(axis=1, initial=np.inf) < 0.01).all()
    if len(boxes) == 1:
        assert (distances.min(axis=0) < 0.01).all()


def test_picture_without_objects_is_all_background():
    class_targets, box_targets = assign_targets(
        make_anchors(32, 32), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    )
    assert class_targets.shape == (138,) and not class_targets.any()
    assert box_targets.shape == (138, 4) and not box_targets.any()
