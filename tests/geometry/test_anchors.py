"""Anchors against a table worked out by hand, and against the places where the network's outputs stand."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from narrow_network import NAME

from aploss_mx.geometry.anchors import PAPERS, STRIDES, AnchorShapes, cell_anchors, level_shapes, make_anchors
from symbols.fpn import FPN
from symbols.retinanet import RetinaNet

# Around (4, 4), area 32² and then 2 · 32², height / width ½, 1 and 2; 22.627417 = 32 / √2.
FIRST_CELL = [
    [-18.627417, -7.3137085, 26.627417, 15.3137085],
    [-12, -12, 20, 20],
    [-7.3137085, -18.627417, 15.3137085, 26.627417],
    [-28, -12, 36, 20],
    [-18.627417, -18.627417, 26.627417, 26.627417],
    [-12, -28, 20, 36],
]


def test_first_cell_of_p3_is_the_table():
    np.testing.assert_allclose(make_anchors(64, 64)[:6], FIRST_CELL, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stride", STRIDES)
def test_cells_of_all_levels_are_the_table_enlarged(stride):
    table = (np.array(FIRST_CELL) - 4) * stride / 8
    np.testing.assert_allclose(cell_anchors(stride), table, rtol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "shapes", "count"),
    [
        (512, 512, [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)], 32736),
        (96, 160, [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)], 1938),
        (32, 32, [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], 138),
        (512, 832, [(64, 104), (32, 52), (16, 26), (8, 13), (4, 7)], 53208),
    ],
)
def test_levels_and_number_of_anchors(height, width, shapes, count):
    assert level_shapes(height, width) == shapes
    assert make_anchors(height, width).shape == (count, 4)


def test_order_is_levels_then_rows_then_columns_then_the_cell():
    expected = [
        np.array([x, y, x, y]) + anchor
        for stride, (rows, columns) in zip(STRIDES, level_shapes(96, 160))
        for y in (np.arange(rows) + 0.5) * stride
        for x in (np.arange(columns) + 0.5) * stride
        for anchor in cell_anchors(stride)
    ]
    np.testing.assert_allclose(make_anchors(96, 160), expected, rtol=1e-6, atol=1e-5)


def test_other_shapes_have_their_sides():
    anchors = cell_anchors(16, AnchorShapes(2, (1, 0.5), (4,)))
    np.testing.assert_allclose(anchors, [[-8, -32, 8, 32], [-4, -16, 4, 16]])
    assert len(make_anchors(32, 32, AnchorShapes(2, (1, 0.5), (4,)))) == 138 // 3


class LocatedFPN(FPN):
    """A pyramid whose maps hold, in place of features, the centre (x, y) of each cell and the level's stride."""

    def hybrid_forward(self, F, *features):
        levels = super().hybrid_forward(F, *features)
        return tuple(self._located(level.shape[2:], stride) for level, stride in zip(levels, STRIDES))

    @staticmethod
    def _located(shape, stride):
        y, x = (np.indices(shape) + 0.5) * stride
        return mx.nd.array(np.stack([x, y, np.full(shape, stride)])[None])


def telling_head(fields: list[int]) -> nn.HybridSequential:
    """A head whose outputs for anchor a are `fields`: 0 x, 1 y, 2 stride of a `LocatedFPN`, 3 the number a."""
    weight = np.zeros((PAPERS.per_cell, len(fields), 3))
    bias = np.zeros((PAPERS.per_cell, len(fields)))
    for place, field in enumerate(fields):
        if field == 3:
            bias[:, place] = np.arange(PAPERS.per_cell)
        else:
            weight[:, place, field] = 1
    head = nn.HybridSequential()
    head.add(nn.Conv2D(bias.size, 1, in_channels=3))
    head.initialize()
    head[0].weight.set_data(mx.nd.array(weight.reshape(-1, 3, 1, 1)))
    head[0].bias.set_data(mx.nd.array(bias.ravel()))
    return head


@pytest.mark.parametrize(("height", "width"), [(96, 160), (64, 32)])
def test_network_puts_each_output_where_its_anchor_is(height, width):
    network = RetinaNet(NAME, classes=2, channels=3)
    network.initialize_random()
    network.fpn = LocatedFPN(network.backbone.channels, 3)
    network.fpn.initialize()
    network.class_head = telling_head([3, 0])
    network.box_head = telling_head([0, 1, 2, 3])

    logits, deltas = (output.asnumpy()[0] for output in network(mx.nd.zeros((1, 3, height, width))))
    anchors = make_anchors(height, width)
    cells = {stride: cell_anchors(stride) for stride in STRIDES}
    told = [np.array([x, y, x, y]) + cells[int(stride)][int(number)] for x, y, stride, number in deltas]
    np.testing.assert_allclose(told, anchors, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(logits, deltas[:, [3, 0]])


def test_network_and_anchors_agree_in_number_for_all_sizes():
    outputs = mx.sym.Group(RetinaNet(NAME, classes=3, channels=8)(mx.sym.var("images")))
    for height in range(32, 1056, 96):
        for width in range(32, 1056, 32):
            count = len(make_anchors(height, width))
            _, shapes, _ = outputs.infer_shape_partial(images=(2, 3, height, width))
            assert shapes == [(2, count, 3), (2, count, 4)], (height, width)


@pytest.mark.parametrize(("height", "width"), [(500, 512), (512, 500), (0, 32), (32, 0), (-32, 32), (16, 16)])
def test_other_sides_than_multiples_of_32_are_refused(height, width):
    for function in (level_shapes, make_anchors):
        with pytest.raises(ValueError, match=f"multiples of 32 pixels, not {height}×{width}"):
            function(height, width)


def test_anchors_are_shared_and_read_only_float32():
    anchors = make_anchors(64, 96)
    assert anchors.dtype == np.float32 and make_anchors(64, 96) is anchors
    with pytest.raises(ValueError, match="read-only"):
        anchors[0] = 0
