"""Turn the network's output into boxes: decoding, thresholds and non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy.special import expit, logit

from aploss_mx.geometry.anchors import PAPERS, STRIDES, AnchorShapes, level_shapes, make_anchors
from aploss_mx.geometry.boxes import box_areas, clip_boxes, pairwise_iou
from aploss_mx.geometry.coder import decode
from aploss_mx.geometry.detections import Detections


@dataclass(frozen=True)
class PostProcessing:
    """Which boxes of the network's output are kept; the defaults are the paper's and its release's.

    Attributes
    ----------
    topk : int
        Candidates (anchor, class) kept on each pyramid level.
    score_threshold : float
        Sigmoid score that a candidate must exceed; not applied on P7.
    nms_threshold : float
        IoU above which the lower of two boxes of one class is dropped.
    max_detections : int
        Boxes kept on an image.
    anchors : AnchorShapes
        The network's.
    """

    topk: int = 1000
    score_threshold: float = 0.01
    nms_threshold: float = 0.5
    max_detections: int = 100
    anchors: AnchorShapes = PAPERS

    def __call__(self, logits: np.ndarray, deltas: np.ndarray, height: int, width: int) -> Detections:
        """Return the detections of one input, highest score first, in its own pixels.

        Parameters
        ----------
        logits : ndarray of float32, shape (N, K)
        deltas : ndarray of float32, shape (N, 4)
        height, width : int
            Size of the network's input in pixels.

        Raises
        ------
        ValueError
            If N is not the number of that input's anchors, or a side is no positive multiple of 32.
        """
        return self.suppress(self.candidates(logits, deltas, height, width))

    def candidates(self, logits: np.ndarray, deltas: np.ndarray, height: int, width: int) -> Detections:
        """Return what is left to non-maximum suppression, with logits for scores; arguments and errors as above."""
        places = self._places(logits, height, width)
        anchors, labels = np.divmod(places, logits.shape[1])
        boxes = decode(deltas[anchors], make_anchors(height, width, self.anchors)[anchors])
        return Detections(boxes, logits.reshape(-1)[places], labels)

    def suppress(self, candidates: Detections) -> Detections:
        """Return the detections among candidates that have logits for scores, highest score first.

        Of several views' candidates, the best `topk` a level in all are looked at: as many as one view may have.
        """
        # Ranked by logit, and float64 scores: sigmoids near 1 are equal in float32.
        order = np.argsort(-candidates.scores, kind="stable")[: len(STRIDES) * self.topk]
        boxes, labels = candidates.boxes[order], candidates.labels[order]
        kept = non_maximum_suppression(boxes, labels, self.nms_threshold, self.max_detections)
        return Detections(boxes[kept], expit(candidates.scores[order][kept].astype(np.float64)), labels[kept])

    def _places(self, logits: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return flat places in `logits`: the best of each level, above the threshold on all levels but the last."""
        shapes = level_shapes(height, width)
        ends = np.cumsum([rows * columns for rows, columns in shapes]) * self.anchors.per_cell * logits.shape[1]
        if ends[-1] != logits.size:
            raise ValueError(
                f"the network gives logits of {len(logits)} anchors, and an input of {height}×{width} pixels has "
                f"{ends[-1] // logits.shape[1]}: are the anchors' shapes, or the image's size, others than given?"
            )
        starts = [0, *ends[:-1]]
        flat = logits.reshape(-1)
        lowest, chosen = logit(self.score_threshold), []
        for level, (start, end) in enumerate(zip(starts, ends)):
            scores = flat[start:end]
            last = level == len(shapes) - 1
            above = np.arange(len(scores)) if last else np.flatnonzero(scores > lowest)
            if len(above) > self.topk:
                above = above[np.argpartition(-scores[above], self.topk - 1)[: self.topk]]
            chosen.append(start + above)
        return np.concatenate(chosen)


def non_maximum_suppression(boxes: np.ndarray, labels: np.ndarray, threshold: float, max_detections: int) -> list[int]:
    """Return the rows of boxes (D, 4), highest score first, that greedy suppression within each class keeps.

    A box is dropped if its IoU with one that was kept of its class exceeds the threshold.
    """
    # Libraries' functions do not stop at the last box that is wanted, which saves them most of the work.
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left) and len(kept) < max_detections:
        best, left = left[0], left[1:]
        kept.append(best)
        rivals = left[labels[left] == labels[best]]
        overlap = pairwise_iou(boxes[best : best + 1], boxes[rivals])[0]
        left = np.setdiff1d(left, rivals[overlap > threshold], assume_unique=True)
    return kept


def drop_background(logits: np.ndarray) -> np.ndarray:
    """Return logits whose sigmoid is the softmax of `logits` (…, K + 1), without the background: shape (…, K)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    best = shifted.argmax(axis=-1)[..., None]
    powers = np.exp(shifted)
    # The best one is 1, and its rest is summed up without it: 1 - p would lose all digits where p is near 1.
    np.put_along_axis(powers, best, 0, axis=-1)
    rest = powers.sum(axis=-1, keepdims=True)
    others = 1 + rest - powers
    np.put_along_axis(others, best, np.maximum(rest, np.finfo(logits.dtype).tiny), axis=-1)
    return (shifted - np.log(others))[..., 1:]


def to_image(detections: Detections, scale: np.ndarray, width: int, height: int, mirrored: bool = False) -> Detections:
    """Carry detections from the network's input back to the image: scaled by 1 / `scale` (x, y) and clipped to it.

    Boxes of which nothing is left inside the image are dropped. `mirrored` says that the input was a mirror image.
    """
    boxes = clip_boxes(detections.boxes / np.tile(scale, 2), width, height)
    if mirrored:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    keep = box_areas(boxes) > 0
    return Detections(boxes[keep], detections.scores[keep], detections.labels[keep])


def merge(views: Sequence[Detections]) -> Detections:
    """Return the detections of several views of an image as one set."""
    return Detections(*(np.concatenate(parts) for parts in zip(*((v.boxes, v.scores, v.labels) for v in views))))
