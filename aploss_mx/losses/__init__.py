"""Losses as Gluon blocks; classification losses are all called alike: logits (B, N, K), class targets (B, N) → (1,)."""

from aploss_mx.losses.ap_loss import APLoss
from aploss_mx.losses.box_loss import BoxLoss

__all__ = ["APLoss", "BoxLoss"]
