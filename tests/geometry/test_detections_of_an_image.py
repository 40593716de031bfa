"""The detections of an image, and parts of them."""

from __future__ import annotations

import numpy as np
import pytest

from aploss_mx.geometry.detections import Detections

SCORES = np.array([0.9, 0.5, 0.1])


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("rows", [SCORES >= 0.5, slice(2), [0, 1], np.array([0, 1])])
def test_a_part_of_them(rows, calibrated):
    boxes = np.arange(12.0).reshape(3, 4)
    found = Detections(boxes, SCORES, np.array([2, 0, 1]), SCORES.astype(np.float32) if calibrated else None)[rows]
    assert len(found) == 2
    np.testing.assert_array_equal(found.boxes, boxes[:2])
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.9, 0.5], [2, 0])
    assert found.confidence is None or found.confidence.shape == (2,)
    assert (found.confidence is not None) == calibrated


def test_they_are_no_sequence():
    with pytest.raises(TypeError, match=r"such as found\[:1\]"):
        Detections()[0]
    with pytest.raises(TypeError):
        iter(Detections())


def test_lists_become_arrays():
    found = Detections([[0, 1, 2, 3], [0, 0, 9, 9]], [0.9, 0.5], [2, 0])
    assert found[found.scores < 0.9].boxes.tolist() == [[0, 0, 9, 9]]
    assert Detections([], [], []) == Detections()
    with pytest.raises(ValueError, match=r"got \(1, 3\), \(1,\) and \(1,\)"):
        Detections([[0, 1, 2]], [0.9], [2])


def test_those_of_equal_fields_are_equal():
    boxes, labels = np.arange(12.0).reshape(3, 4), np.array([2, 0, 1])
    found = Detections(boxes, SCORES, labels)
    assert found == Detections(boxes.copy(), SCORES.copy(), labels.copy())
    assert found in [Detections(), found[:2], Detections(boxes, SCORES, labels, SCORES), found[[0, 1, 2]]]
    assert found not in [Detections(), found[:2], Detections(boxes, SCORES, labels, SCORES)]
