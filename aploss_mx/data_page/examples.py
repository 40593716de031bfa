"""Choose pictures that show what a data set holds, as annotated and as training makes its examples of them."""

from __future__ import annotations

from itertools import zip_longest
from typing import Collection, Sequence

import numpy as np
from markupsafe import Markup

from aploss_mx.config import Recipe
from aploss_mx.data.examples import Draw, augmented
from aploss_mx.data.pixels import denormalize, read_image
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.data_page.pictures import Marked, mark, show
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.boxes import pairwise_iou
from aploss_mx.geometry.matcher import POSITIVE_IOU
from aploss_mx.geometry.targets import assign_targets
from aploss_mx.page.gallery import IGNORED, TRUTH, Group
from aploss_mx.palette import ORANGE, SKY_BLUE, VERMILION, YELLOW

MOST_EXAMPLES, MOST_OF_CLASS = 120, 6
LEAST_EXAMPLES = 12
MOST_AUGMENTED = 12
OBJECTS = (
    Group("object", YELLOW, TRUTH),
    Group("difficult object", "#bbbbbb", IGNORED),
    Group("left out of training", ORANGE, IGNORED),
)
TARGETS = (
    Group("positive anchor", SKY_BLUE, IGNORED, fine=True),
    Group("anchor by the forced match alone", VERMILION, IGNORED, fine=True),
    Group("object", YELLOW, TRUTH),
)


def choose_examples(samples: Sequence[Sample], classes: int, unfit: Collection[str]) -> list[Sample]:
    """Return pictures of each class, from all over the data set, but for the files that are `unfit`.

    First come one of each class, then the second ones, and so on.
    """
    of_class = min(MOST_OF_CLASS, max(1, MOST_EXAMPLES // max(1, classes)))
    fit = [sample for sample in samples if sample.trained.any() and str(sample.image_path) not in unfit]
    having: list[list[int]] = [[] for _ in range(classes)]
    for index, sample in enumerate(fit):
        for label in set(sample.labels[sample.trained].tolist()):
            having[label].append(index)
    chosen: set[int] = set()
    rounds = []
    for wanted, candidates in [*((of_class, one) for one in having), (LEAST_EXAMPLES, list(range(len(fit))))]:
        others = [index for index in candidates if index not in chosen]
        lacking = min(max(0, wanted - (len(candidates) - len(others))), len(others))
        rounds.append([others[int(place)] for place in np.linspace(0, len(others) - 1, lacking).round()])
        chosen.update(rounds[-1])
    order = [index for one in zip_longest(*rounds) for index in one if index is not None]
    return [fit[index] for index in order[:MOST_EXAMPLES]]


def examples_gallery(samples: Sequence[Sample], classes: Sequence[str]) -> Markup:
    """Return a gallery of pictures as annotated."""
    marked = []
    for sample in samples:
        group = np.where(sample.trained, 0, np.where(sample.difficult, 1, 2))
        try:
            image = read_image(sample.image_path)
        except OSError:  # a JPEG that ends as it should was not decoded by the check
            continue
        size = (sample.width, sample.height)
        name = sample.image_path.name
        marked.append(mark(image, sample.boxes, sample.labels.tolist(), group.tolist(), name, size=size))
    return show("Examples as annotated", marked, classes, OBJECTS)


def augmented_gallery(samples: Sequence[Sample], classes: Sequence[str], recipe: Recipe) -> Markup:
    """Return a gallery of examples as training makes them, with the anchors that are assigned to their objects."""
    marked: list[Marked] = []
    for position, sample in enumerate(samples):
        if len(marked) == MOST_AUGMENTED:
            break
        try:
            marked.append(training_picture(sample, recipe, Draw(0, position, position)))
        except OSError:
            continue
    return show("Examples after augmentation", marked, classes, TARGETS)


def training_picture(sample: Sample, recipe: Recipe, draw: Draw) -> Marked:
    """Return one example as training makes it; `Draw` and the recipe's seed decide on the augmentation.

    Raises
    ------
    OSError
        As `read_image`.
    """
    transform = TrainTransform((recipe.data_shape, recipe.data_shape), recipe.augmentation, recipe.pixels)
    planes, boxes, labels = augmented(sample, transform, recipe.seed, draw)
    anchors = make_anchors(*planes.shape[1:], recipe.anchors)
    targets, _ = assign_targets(anchors, boxes, labels)
    positive = anchors[targets > 0]
    forced = pairwise_iou(positive, boxes).max(axis=1, initial=0) < POSITIVE_IOU
    return mark(
        denormalize(planes, recipe.pixels),
        np.concatenate([positive, boxes]),
        [*(targets[targets > 0].astype(int) - 1), *labels],
        [*forced.astype(int), *[2] * len(labels)],
        sample.image_path.name,
        f"{(targets < 0).sum():,} of {len(anchors):,} anchors ignored",
    )
