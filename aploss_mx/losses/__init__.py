"""Losses as Gluon blocks; classification losses are all called alike: logits, class targets (B, N) → (1,)."""

from aploss_mx.losses.ap_loss import APLoss
from aploss_mx.losses.auc_loss import AUCLoss
from aploss_mx.losses.box_loss import BoxLoss
from aploss_mx.losses.focal_loss import FocalLoss
from aploss_mx.losses.ohem_loss import OHEMCrossEntropyLoss
from aploss_mx.losses.smooth_ap_loss import SmoothAPLoss
from aploss_mx.losses.structured_hinge_loss import StructuredHingeAPLoss

__all__ = [
    "APLoss",
    "AUCLoss",
    "BoxLoss",
    "FocalLoss",
    "OHEMCrossEntropyLoss",
    "SmoothAPLoss",
    "StructuredHingeAPLoss",
]
