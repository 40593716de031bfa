"""Detectors of random weights, which find many boxes, of scores that differ."""

from __future__ import annotations

import mxnet as mx
from tiny_training import tiny_recipe

from aploss_mx.config import Recipe
from aploss_mx.detection.detector import Detector
from symbols.retinanet import RetinaNet, get_network

CLASSES = ("cat", "dog", "bird")


def random_network(recipe: Recipe) -> RetinaNet:
    mx.random.seed(0)
    network = get_network(recipe.network, len(CLASSES), 16, mx.cpu(), None, recipe.background, recipe.anchors.per_cell)
    # Small enough that no two scores are 1 in float32; inputs that no deviation divides are 58 times as large.
    deviation = 0.02 if recipe.pixels == "torchvision" else 0.02 / 58
    for head in (network.class_head, network.box_head):
        head[-1].weight.set_data(mx.nd.random.normal(0, deviation, head[-1].weight.shape))
    return network


def make_detector(**settings) -> Detector:
    recipe = tiny_recipe(**{"test_short": 96, "test_long": 150, "topk": 50, **settings})
    return Detector(random_network(recipe), CLASSES, recipe, mx.cpu())
