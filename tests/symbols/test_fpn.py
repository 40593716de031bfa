"""The pyramid against one in NumPy."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from numpy_layers import convolve, enlarge, relu

from symbols.fpn import FPN

IN_CHANNELS = (2, 3, 4)


def features(height: int, width: int) -> list[np.ndarray]:
    """C3, C4, C5 of a picture of 32·height × 32·width pixels."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(0, 1, (channels, height * scale, width * scale)) for channels, scale in zip(IN_CHANNELS, (4, 2, 1))
    ]


def random_fpn(channels: int) -> FPN:
    fpn = FPN(IN_CHANNELS, channels)
    fpn.initialize(mx.init.Normal(1))
    for name, param in fpn._collect_params_with_prefix().items():
        if name.endswith("bias"):
            param.set_data(mx.nd.random.normal(shape=param.shape))
    return fpn


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (3, 5)])
def test_levels_are_those_of_the_formula(height, width):
    mx.random.seed(1)
    fpn = random_fpn(5)
    c3, c4, c5 = features(height, width)
    levels = [level.asnumpy()[0] for level in fpn(*(mx.nd.array(maps[None]) for maps in (c3, c4, c5)))]

    params = {name: param.data().asnumpy() for name, param in fpn._collect_params_with_prefix().items()}

    def layer(name, maps, stride=1):
        weight = params[f"{name}.weight"]
        return convolve(maps, weight, params[f"{name}.bias"], stride, padding=weight.shape[2] // 2)

    top5 = layer("lateral5", c5)
    top4 = layer("lateral4", c4) + enlarge(top5)
    top3 = layer("lateral3", c3) + enlarge(top4)
    p6 = layer("down6", c5, 2)
    p7 = layer("down7", relu(p6), 2)
    expected = [layer("output3", top3), layer("output4", top4), layer("output5", top5), p6, p7]
    for level, maps in zip(levels, expected):
        np.testing.assert_allclose(level, maps, rtol=1e-4, atol=1e-4)
    assert [level.shape[1:] for level in levels[:3]] == [(height * scale, width * scale) for scale in (4, 2, 1)]


def test_number_of_parameters():
    params = FPN(IN_CHANNELS, 7).collect_params().values()
    laterals = sum(channels * 7 + 7 for channels in IN_CHANNELS)
    outputs = 3 * (9 * 7 * 7 + 7)
    down = 9 * 4 * 7 + 7 + 9 * 7 * 7 + 7
    assert sum(np.prod(param.shape) for param in params) == laterals + outputs + down
