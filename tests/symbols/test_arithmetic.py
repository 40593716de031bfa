"""Counted multiply-adds against arithmetic by hand and published counts."""

from __future__ import annotations

import pytest
from gluoncv.model_zoo import get_model
from mxnet.gluon import nn

from symbols.arithmetic import multiply_adds
from symbols.retinanet import RetinaNet


def test_layers_by_hand():
    layers = nn.HybridSequential()
    layers.add(nn.Conv2D(6, 3, strides=2, padding=1, groups=2, in_channels=4), nn.Dense(7, in_units=6 * 4 * 5))
    assert multiply_adds(layers, (2, 4, 8, 10)) == 2 * (6 * 4 * 5 * 3 * 3 * 2 + 7 * 6 * 4 * 5)


@pytest.mark.parametrize("name, billions", [("resnet18_v1b", 1.81), ("resnet50_v1b", 4.09), ("resnet101_v1b", 7.80)])
def test_classifiers_as_published(name, billions):
    """torchvision gives these counts for the same networks at 224 px."""
    network = get_model(name, pretrained=False)
    assert multiply_adds(network, (1, 3, 224, 224)) / 1e9 == pytest.approx(billions, abs=0.015)


def test_they_grow_with_images_pixels_and_classes():
    network = RetinaNet("resnet18_v1b", 20, channels=32)
    once = multiply_adds(network, (1, 3, 128, 128))
    assert multiply_adds(network, (3, 3, 128, 128)) == 3 * once
    assert multiply_adds(network, (1, 3, 256, 256)) == 4 * once
    cells = 16**2 + 8**2 + 4**2 + 2**2 + 1
    more = multiply_adds(RetinaNet("resnet18_v1b", 21, channels=32), (1, 3, 128, 128)) - once
    assert more == cells * 6 * 9 * 32
