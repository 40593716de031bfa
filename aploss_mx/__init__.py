"""AP-loss (Chen et al., CVPR 2019) for one-stage detectors, in Apache MXNet and GluonCV.

Names are imported when they are first used: what is NumPy alone needs no MXNet. With MXNet, the losses are operators,
too: ``mx.nd.Custom(logits, class_targets, op_type="aploss")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aploss_mx.extras import needs
from symbols.mxnet_setup import after_mxnet, before_mxnet

if TYPE_CHECKING:
    from aploss_mx.config import Recipe, load_recipe
    from aploss_mx.detection.detector import Detector
    from aploss_mx.geometry.detections import Detections
    from aploss_mx.losses import (
        APLoss,
        AUCLoss,
        BoxLoss,
        FocalLoss,
        OHEMCrossEntropyLoss,
        SmoothAPLoss,
        StructuredHingeAPLoss,
    )
    from aploss_mx.ranking.exact import ap_loss_and_grad, auc_loss_and_grad
    from aploss_mx.ranking.smooth_ap import smooth_ap_loss_and_grad
    from aploss_mx.ranking.structured_hinge import structured_hinge_loss_and_grad

__version__ = "0.1.0"
__all__ = [
    "APLoss",
    "AUCLoss",
    "BoxLoss",
    "Detections",
    "Detector",
    "FocalLoss",
    "OHEMCrossEntropyLoss",
    "Recipe",
    "SmoothAPLoss",
    "StructuredHingeAPLoss",
    "ap_loss_and_grad",
    "auc_loss_and_grad",
    "load_recipe",
    "smooth_ap_loss_and_grad",
    "structured_hinge_loss_and_grad",
]

_MODULES = {
    "Detections": "geometry.detections",
    "Detector": "detection.detector",
    "Recipe": "config",
    "ap_loss_and_grad": "ranking.exact",
    "auc_loss_and_grad": "ranking.exact",
    "load_recipe": "config",
    "smooth_ap_loss_and_grad": "ranking.smooth_ap",
    "structured_hinge_loss_and_grad": "ranking.structured_hinge",
}  # the others' is losses


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES.get(name, 'losses')}")
    except ModuleNotFoundError as error:
        raise ImportError(f"{__name__}.{name} {needs(error)}") from error
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__


before_mxnet(lambda: import_module("aploss_mx.cuda").load_cuda_libraries())
after_mxnet(lambda: import_module("aploss_mx.losses"))  # which registers the operators
