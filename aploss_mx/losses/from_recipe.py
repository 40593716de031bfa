"""The classification loss that a recipe asks for."""

from __future__ import annotations

from mxnet.gluon import HybridBlock

from aploss_mx.config import Recipe
from aploss_mx.losses.ap_loss import APLoss
from aploss_mx.losses.auc_loss import AUCLoss
from aploss_mx.losses.focal_loss import FocalLoss
from aploss_mx.losses.ohem_loss import OHEMCrossEntropyLoss
from aploss_mx.losses.smooth_ap_loss import SmoothAPLoss
from aploss_mx.losses.structured_hinge_loss import StructuredHingeAPLoss


def make_class_loss(recipe: Recipe) -> HybridBlock:
    """Return the block that ``recipe.loss`` names, with the recipe's settings of it."""
    if recipe.loss == "focal":
        return FocalLoss()
    if recipe.loss == "ohem":
        return OHEMCrossEntropyLoss()
    ranking = {"ranking_batch": recipe.ranking_batch, "ranking_scope": recipe.ranking_scope}
    if recipe.loss == "auc":
        return AUCLoss(recipe.delta, **ranking)
    if recipe.loss == "smooth-ap":
        return SmoothAPLoss(recipe.temperature, **ranking)
    if recipe.loss == "hinge-ap":
        return StructuredHingeAPLoss(**ranking)
    return APLoss(recipe.delta, recipe.interpolated, **ranking)
