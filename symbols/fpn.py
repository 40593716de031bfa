"""Feature Pyramid Network, in RetinaNet's form: P3 … P7."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn


class FPN(HybridBlock):
    """C3, C4, C5 → P3, P4, P5, P6, P7, each of `channels` channels, at strides 8, 16, 32, 64, 128.

    P6 comes from C5 by a 3×3 convolution of stride 2, P7 likewise from ReLU(P6).

    Parameters
    ----------
    in_channels : tuple of int
        Channels of C3, C4 and C5.
    channels : int
        Channels of every level of the pyramid.
    """

    def __init__(self, in_channels: tuple[int, int, int], channels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        with self.name_scope():
            self.lateral3 = nn.Conv2D(channels, 1, in_channels=in_channels[0])
            self.lateral4 = nn.Conv2D(channels, 1, in_channels=in_channels[1])
            self.lateral5 = nn.Conv2D(channels, 1, in_channels=in_channels[2])
            self.output3 = nn.Conv2D(channels, 3, padding=1, in_channels=channels)
            self.output4 = nn.Conv2D(channels, 3, padding=1, in_channels=channels)
            self.output5 = nn.Conv2D(channels, 3, padding=1, in_channels=channels)
            self.down6 = nn.Conv2D(channels, 3, strides=2, padding=1, in_channels=in_channels[2])
            self.down7 = nn.Conv2D(channels, 3, strides=2, padding=1, in_channels=channels)

    def hybrid_forward(self, F, c3, c4, c5):
        top5 = self.lateral5(c5)
        top4 = self.lateral4(c4) + F.UpSampling(top5, scale=2, sample_type="nearest")
        top3 = self.lateral3(c3) + F.UpSampling(top4, scale=2, sample_type="nearest")
        p6 = self.down6(c5)
        p7 = self.down7(F.relu(p6))
        return self.output3(top3), self.output4(top4), self.output5(top5), p6, p7
