"""Detections against a slow and obvious selection, decoding and suppression, and back in the image."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.special import expit, softmax

from aploss_mx.detection.postprocess import PostProcessing, drop_background, merge, non_maximum_suppression, to_image
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.detections import Detections

SIZE = (64, 96)
LEVEL_ENDS = [576, 720, 756, 768, 774]  # 6 · (8·12, 4·6, 2·3, 1·2, 1·1), added up
N = LEVEL_ENDS[-1]
CLASSES = 3
FIRST_OF_P7 = LEVEL_ENDS[-2]


def random_outputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and deltas of a network, no two logits alike, most scores around 0.1."""
    rng = np.random.default_rng(seed)
    logits = rng.permutation(np.linspace(-6, 2, N * CLASSES)).reshape(N, CLASSES)
    return logits.astype(np.float32), rng.normal(0, 1, (N, 4)).astype(np.float32)


def silent_outputs() -> tuple[np.ndarray, np.ndarray]:
    """The outputs of a network that finds nothing."""
    return np.full((N, CLASSES), -20, np.float32), np.zeros((N, 4), np.float32)


def decoded(delta, anchor) -> list[float]:
    (x1, y1, x2, y2), (dx, dy, dw, dh) = map(float, anchor), map(float, delta)
    x, y = (x1 + x2) / 2 + 0.1 * dx * (x2 - x1), (y1 + y2) / 2 + 0.1 * dy * (y2 - y1)
    width, height = (x2 - x1) * math.exp(0.2 * dw), (y2 - y1) * math.exp(0.2 * dh)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def overlap(a, b) -> float:
    intersection = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def detect_in_loops(rules: PostProcessing, logits, deltas) -> list[tuple[float, int, list[float]]]:
    """Return (score, label, box) of all detections, step by step as the paper tells it."""
    anchors = make_anchors(*SIZE)
    candidates = []
    for start, end in zip([0, *LEVEL_ENDS], LEVEL_ENDS):
        level = []
        for index in range(start, end):
            for label in range(CLASSES):
                score = 1 / (1 + math.exp(-float(logits[index, label])))
                if score > rules.score_threshold or start == FIRST_OF_P7:
                    level.append((score, label, decoded(deltas[index], anchors[index])))
        candidates += sorted(level, reverse=True)[: rules.topk]
    kept = []
    for score, label, box in sorted(candidates, reverse=True):
        rivals = [overlap(box, other) for _, other_label, other in kept if other_label == label]
        assert all(abs(iou - rules.nms_threshold) > 1e-6 for iou in rivals), "too close to call in float32"
        if all(iou <= rules.nms_threshold for iou in rivals):
            kept.append((score, label, box))
    return kept[: rules.max_detections]


@pytest.mark.parametrize(
    "rules",
    [
        PostProcessing(),
        PostProcessing(topk=20),
        PostProcessing(score_threshold=0.5),
        PostProcessing(score_threshold=0, nms_threshold=0.3, max_detections=1000),
        PostProcessing(topk=7, nms_threshold=0.8, max_detections=9),
    ],
    ids=["paper", "topk", "score", "nms", "all"],
)
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_equals_the_loops(rules, seed):
    logits, deltas = random_outputs(seed)
    found = rules(logits, deltas, *SIZE)
    scores, labels, boxes = zip(*detect_in_loops(rules, logits, deltas))
    assert found.labels.tolist() == list(labels)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-2)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float64, np.int64)


def test_each_rule_changes_the_random_outputs_detections():
    """Otherwise the comparison with the loops would not test that rule."""
    logits, deltas = random_outputs(0)
    base = {"max_detections": 10**6}
    changes = [{}, {"topk": 20}, {"score_threshold": 0.5}, {"score_threshold": 0}, {"nms_threshold": 0.3}]
    counts = {len(PostProcessing(**{**base, **change})(logits, deltas, *SIZE)) for change in changes}
    assert len(counts) == len(changes)
    assert len(PostProcessing()(logits, deltas, *SIZE)) == 100


def test_of_several_views_as_many_candidates_count_as_of_one():
    boxes = np.float32([[10 * number, 0, 10 * number + 9, 9] for number in range(12)])
    views = [
        Detections(boxes[start::2], np.arange(start, 12, 2, np.float32), np.zeros(6, np.int64)) for start in (0, 1)
    ]
    found = PostProcessing(topk=1).suppress(merge(views))
    np.testing.assert_array_equal(found.boxes, boxes[:-6:-1])  # the best of 5 levels


def test_where_nothing_reaches_the_threshold_only_p7_speaks():
    logits, deltas = silent_outputs()
    logits[100, 1] = math.log(0.01 / 0.99) - 1e-4
    found = PostProcessing(nms_threshold=1)(logits, deltas, *SIZE)
    assert sorted(found.labels.tolist()) == sorted([0, 1, 2] * 6)
    last_anchors = make_anchors(*SIZE)[FIRST_OF_P7:]
    for box in found.boxes:
        assert np.isclose(last_anchors, box, atol=0.01).all(axis=1).any()


def test_what_passes_the_threshold_is_found():
    logits, deltas = silent_outputs()
    logits[100, 1] = math.log(0.01 / 0.99) + 1e-4
    found = PostProcessing()(logits, deltas, *SIZE)
    assert found.labels[0] == 1
    assert found.scores[0] == pytest.approx(0.01, rel=1e-3)
    np.testing.assert_allclose(found.boxes[0], make_anchors(*SIZE)[100], atol=1e-3)


def test_a_score_that_equals_the_threshold_is_not_above_it():
    logits, deltas = silent_outputs()
    logits[100, 1], logits[400, 1] = 0, 1e-6  # a score of 0.5, and one above it
    found = PostProcessing(score_threshold=0.5)(logits, deltas, *SIZE)
    np.testing.assert_array_equal(found.scores >= 0.5, [True] + [False] * (len(found) - 1))
    np.testing.assert_allclose(found.boxes[0], make_anchors(*SIZE)[400], atol=1e-3)


def test_an_overlap_that_equals_the_threshold_is_not_above_it():
    boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 4, 4], [0, 0, 8, 5]], np.float32)  # 1/2, 1/4 of the first
    assert non_maximum_suppression(boxes, np.zeros(4, int), 0.5, 10) == [0, 1, 2]


def test_classes_do_not_suppress_each_other():
    logits, deltas = silent_outputs()
    logits[10] = [3, 1, 2]
    found = PostProcessing()(logits, deltas, *SIZE)
    assert found.labels[:3].tolist() == [0, 2, 1]
    np.testing.assert_array_equal(found.boxes[0], found.boxes[1])
    np.testing.assert_array_equal(found.boxes[0], found.boxes[2])


def test_single_class():
    logits, deltas = silent_outputs()
    logits[[3, 700], 0] = 1, 2
    found = PostProcessing(nms_threshold=0.99)(logits[:, :1], deltas, *SIZE)
    assert len(found) == 2 + 6 and not found.labels.any()
    np.testing.assert_allclose(found.boxes[:2], make_anchors(*SIZE)[[700, 3]], atol=1e-3)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_extreme_logits_are_no_cause_for_warnings(logit):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = PostProcessing()(np.full((N, CLASSES), logit, np.float32), np.zeros((N, 4), np.float32), *SIZE)
    assert np.isfinite(found.scores).all()


def test_sides_that_are_no_multiples_of_32_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        PostProcessing()(*silent_outputs(), 64, 100)


def test_back_in_the_image_boxes_are_scaled_clipped_and_dropped_if_outside():
    boxes = np.array(
        [
            [10, 20, 30, 40],  # inside
            [-10, -20, 30, 40],  # cut at the left and the top
            [150, 350, 900, 900],  # cut at the right and the bottom
            [200, 0, 220, 50],  # begins where the image, 100 wide, ends
            [10, 400, 20, 410],  # below it
            [-50, 10, 0, 20],  # left of it
        ],
        np.float32,
    )
    scores = np.linspace(0.9, 0.4, 6).astype(np.float32)
    found = Detections(boxes, scores, np.arange(6))
    back = to_image(found, np.array([2, 4], np.float32), width=100, height=100)
    np.testing.assert_array_equal(back.boxes, [[5, 5, 15, 10], [0, 0, 15, 10], [75, 87.5, 100, 100]])
    np.testing.assert_array_equal(back.scores, scores[:3])
    assert back.labels.tolist() == [0, 1, 2]
    assert (back.boxes.dtype, back.scores.dtype, back.labels.dtype) == (np.float32, np.float32, np.int64)


def test_no_detections_stay_none_in_the_image():
    assert len(to_image(Detections(), np.array([2, 2], np.float32), 10, 10)) == 0


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 1000.0])
def test_without_background_the_sigmoid_is_the_softmax(scale):
    logits = (scale * np.random.default_rng(0).normal(size=(7, 30, 5))).astype(np.float32)
    np.testing.assert_allclose(expit(drop_background(logits)), softmax(logits, axis=-1)[..., 1:], rtol=2e-5, atol=1e-7)


def test_sure_classes_stay_in_order_without_background():
    # p = 1 to float32 for all three: their odds still differ.
    logits = np.array([[0, 30, 0], [0, 40, 0], [0, 80, -5]], np.float32)
    odds = drop_background(logits)[:, 0]
    np.testing.assert_allclose(odds, [30 - np.log(2), 40 - np.log(2), 80 - np.log(1 + np.exp(-5))], rtol=1e-6)
