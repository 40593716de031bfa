"""RetinaNet (Lin et al., ICCV 2017): a ResNet with a feature pyramid, and two heads shared by its levels."""

from __future__ import annotations

import math
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

from symbols.fpn import FPN
from symbols.resnet import ResNetFeatures

PRIOR = 0.01  # probability that an untrained network gives to an anchor's class


class RetinaNet(HybridBlock):
    """images (B, 3, H, W) → class logits (B, N, K), or (B, N, K + 1) with background, box deltas (B, N, 4).

    H and W are multiples of 32. The N anchors come level by level, P3 to P7, cells row by row, and `anchors_per_cell`
    to a cell.

    Parameters
    ----------
    backbone : str
        A name of `symbols.backbones.BACKBONES`.
    classes : int
        K, without a background class.
    channels : int
        Width of the pyramid and the heads; 256 in the paper.
    anchors_per_cell : int
        6 in the AP-loss paper.
    background : bool
        Whether the logits have the background's in front, as a softmax over classes needs.

    Raises
    ------
    ValueError
        If the backbone is unknown or `classes` is not positive.
    """

    def __init__(
        self,
        backbone: str,
        classes: int,
        channels: int = 256,
        anchors_per_cell: int = 6,
        background: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"a detector needs at least one class, not {classes}")
        self.background = background
        self.class_outputs = classes + background
        with self.name_scope():
            self.backbone = ResNetFeatures(backbone)
            self.fpn = FPN(self.backbone.channels, channels)
            self.class_head = _head(channels, anchors_per_cell * self.class_outputs)
            self.box_head = _head(channels, anchors_per_cell * 4)

    def hybrid_forward(self, F, images):
        levels = self.fpn(*self.backbone(images))
        logits = F.concat(*(_per_anchor(self.class_head(level), self.class_outputs) for level in levels), dim=1)
        deltas = F.concat(*(_per_anchor(self.box_head(level), 4) for level in levels), dim=1)
        return logits, deltas

    def initialize_random(self, ctx: mx.Context | list[mx.Context] | None = None, std: float | None = 0.01) -> None:
        """Fill all parameters with random values, as RetinaNet starts; MXNet's seed decides which.

        Parameters
        ----------
        ctx : Context or list of Context
            Where the parameters live.
        std : float or None
            Standard deviation of the new convolutions' weights: 0.01 in the paper, which suits 256 channels. None
            takes He's, which keeps the signal's size at any width. The outputs have their own: class logits start
            at N(0, 0.01) weights and bias -log((1 - 0.01) / 0.01), or 0 with background, box deltas at N(0, 0.001).
        """
        new_conv = mx.init.MSRAPrelu(factor_type="in", slope=0) if std is None else mx.init.Normal(std)
        self.backbone.initialize_random(ctx)
        for part in (self.fpn, self.class_head, self.box_head):
            part.initialize(new_conv, ctx=ctx, force_reinit=True)
        class_output, box_output = self.class_head[-1], self.box_head[-1]
        class_output.weight.initialize(mx.init.Normal(0.01), ctx=ctx, force_reinit=True)
        if not self.background:
            class_output.bias.set_data(mx.nd.full(class_output.bias.shape, -math.log((1 - PRIOR) / PRIOR)))
        box_output.weight.initialize(mx.init.Normal(0.001), ctx=ctx, force_reinit=True)


def _head(channels: int, outputs: int) -> nn.HybridSequential:
    """Return four 3×3 convolutions with ReLU, and a fifth for the outputs."""
    head = nn.HybridSequential()
    for _ in range(4):
        head.add(nn.Conv2D(channels, 3, padding=1, activation="relu", in_channels=channels))
    head.add(nn.Conv2D(outputs, 3, padding=1, in_channels=channels))
    return head


def _per_anchor(maps: Any, width: int) -> Any:
    """Reshape (B, A·width, H, W) → (B, H·W·A, width)."""
    return maps.transpose((0, 2, 3, 1)).reshape((0, -1, width))


def get_network(
    name: str,
    classes: int,
    channels: int = 256,
    ctx: mx.Context | list[mx.Context] | None = None,
    std: float | None = 0.01,
    background: bool = False,
    anchors_per_cell: int = 6,
) -> RetinaNet:
    """Return a randomly initialised RetinaNet over the backbone `name`; see `RetinaNet` for arguments and errors."""
    network = RetinaNet(name, classes, channels, anchors_per_cell, background)
    network.initialize_random(ctx or mx.current_context(), std)
    return network
