"""GluonCV's ResNet v1b as a feature extractor that keeps its pretrained part as it is."""

from __future__ import annotations

from typing import Any, Iterator

import mxnet as mx
from gluoncv.model_zoo import get_model
from mxnet.gluon import HybridBlock, nn

from symbols.backbones import BACKBONES

BATCH_NORM_ROLES = ("gamma", "beta", "running_mean", "running_var")


class ResNetFeatures(HybridBlock):
    """ResNet v1b (stride in the 3×3 convolutions) without its classifier.

    images (B, 3, H, W) → C3 (B, ·, H/8, W/8), C4 (B, ·, H/16, W/16), C5 (B, ·, H/32, W/32).

    Its parameters have GluonCV's names (``layer1.0.conv1.weight`` …) in `_collect_params_with_prefix`.

    Parameters
    ----------
    name : str
        A key of `BACKBONES`.

    Raises
    ------
    ValueError
        If the name is unknown.
    """

    def __init__(self, name: str, **kwargs: Any):
        super().__init__(**kwargs)
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; there are {', '.join(BACKBONES)}")
        self.channels = BACKBONES[name]
        with self.name_scope():
            classifier = get_model(name, pretrained=False, pretrained_base=False)
            for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
                setattr(self, part, getattr(classifier, part))
        # GluonCV leaves input channels open until the first call; weights are loaded before that.
        self.infer_shape(mx.nd.zeros((1, 3, 32, 32)))

    def hybrid_forward(self, F, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c3 = self.layer2(self.layer1(x))
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return c3, c4, c5

    def initialize_random(self, ctx: mx.Context | list[mx.Context]) -> None:
        """Fill all parameters as He et al. do for networks trained from scratch."""
        self.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0), ctx=ctx, force_reinit=True)

    def freeze(self, pretrained: set[str]) -> None:
        """Freeze what detectors freeze, as far as it was pretrained; the rest keeps on learning.

        BatchNorm layers whose four arrays are all in `pretrained` keep their statistics, gamma and beta; so do the
        convolutions of the stem and of the first residual stage.

        Parameters
        ----------
        pretrained : set of str
            Names, as in `_collect_params_with_prefix`, of the parameters that hold pretrained values.
        """
        params = self._collect_params_with_prefix()
        for name, layer in _batch_norms(self):
            roles = [f"{name}.{role}" for role in BATCH_NORM_ROLES]
            if pretrained.issuperset(roles):
                # The layer reads this attribute at each call; use_global_stats alone would leave gamma and beta free.
                layer._kwargs["use_global_stats"] = True
                for role in roles:
                    params[role].grad_req = "null"
        for name, param in params.items():
            if name in pretrained and name.startswith(("conv1.", "layer1.")):
                param.grad_req = "null"


def _batch_norms(block: HybridBlock, prefix: str = "") -> Iterator[tuple[str, nn.BatchNorm]]:
    for name, child in block._children.items():
        if isinstance(child, nn.BatchNorm):
            yield prefix + name, child
        yield from _batch_norms(child, f"{prefix}{name}.")
