"""Make the classification loss that a recipe asks for, as a block of its own or over all devices."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock

from aploss_mx.config import Recipe
from aploss_mx.losses.ap_loss import APLoss
from aploss_mx.losses.auc_loss import AUCLoss
from aploss_mx.losses.focal_loss import FocalLoss
from aploss_mx.losses.ohem_loss import OHEMCrossEntropyLoss
from aploss_mx.losses.smooth_ap_loss import SmoothAPLoss
from aploss_mx.losses.structured_hinge_loss import StructuredHingeAPLoss
from aploss_mx.ranking.exact import PiecewiseRanking, ap_loss, auc_loss


def make_sync_method(recipe: Recipe) -> PiecewiseRanking | None:
    """Return what ranks all devices' images together, or None where the recipe does not ask for that."""
    if not recipe.sync_ranking:
        return None
    return ap_loss(recipe.delta, recipe.interpolated) if recipe.loss == "ap" else auc_loss(recipe.delta)


def make_class_loss(recipe: Recipe) -> HybridBlock:
    """Return the block that ``recipe.loss`` names, with the recipe's settings of it."""
    ranking: dict[str, Any] = {"ranking_batch": recipe.ranking_batch, "ranking_scope": recipe.ranking_scope}
    make = {
        "ap": lambda: APLoss(recipe.delta, recipe.interpolated, **ranking),
        "auc": lambda: AUCLoss(recipe.delta, **ranking),
        "smooth-ap": lambda: SmoothAPLoss(recipe.temperature, **ranking),
        "hinge-ap": lambda: StructuredHingeAPLoss(**ranking),
        "focal": FocalLoss,
        "ohem": OHEMCrossEntropyLoss,
    }
    return make[recipe.loss]()
