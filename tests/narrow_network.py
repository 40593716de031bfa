"""A narrow ResNet-18 for tests alone: the parts and names of the real one, and a thirtieth of its weights.

A training's checkpoint with it has 3 MB, where one with ResNet-18 has 90. Programs that a test starts know it too, by
`started/sitecustomize.py`. Importing this module lets recipes name it, before `aploss_mx.config` is imported.
"""

from __future__ import annotations

from symbols.backbones import BACKBONES

NAME = "resnet18_narrow"
WIDTHS = {64: 64, 128: 32, 256: 32, 512: 32}
BACKBONES[NAME] = (32, 32, 32)


def register() -> None:
    """Let GluonCV's `get_model` find it under its name."""
    from gluoncv.model_zoo import model_zoo
    from gluoncv.model_zoo.resnetv1b import BasicBlockV1b, ResNetV1b

    class NarrowResNet18(ResNetV1b):
        def _make_layer(self, stage_index, block, planes, *args, **kwargs):
            return super()._make_layer(stage_index, block, WIDTHS[planes], *args, **kwargs)

    model_zoo._models[NAME] = lambda **_: NarrowResNet18(BasicBlockV1b, [2, 2, 2, 2])
