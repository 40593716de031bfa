"""The backbones that there are; a list that needs no MXNet."""

from __future__ import annotations

BACKBONES = {
    "resnet18_v1b": (128, 256, 512),
    "resnet34_v1b": (128, 256, 512),
    "resnet50_v1b": (512, 1024, 2048),
    "resnet101_v1b": (512, 1024, 2048),
}
"""Names of the backbones and the channels of their C3, C4 and C5."""
