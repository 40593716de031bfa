"""AP-loss as a Gluon block."""

from __future__ import annotations

from mxnet.gluon import HybridBlock

import aploss_mx.ranking.ap_loss  # noqa: F401  (registers the operator)
from aploss_mx.ranking.labels import check_delta


class APLoss(HybridBlock):
    """1 - average precision of one ranking over a device's batch, trained by error-driven updates.

    See `aploss_mx.ranking.ap_loss` for the method and the paper's equations.

    Parameters
    ----------
    delta : float
        Half the width of the piecewise step function, in units of the logits (Eq. 14; 1 in the paper).
    interpolated : bool
        Whether the precision is interpolated (§3.4; True in the paper).

    Inputs
    ------
    logits : NDArray or Symbol of float, shape (B, N, K)
        Raw class scores, no sigmoid.
    class_targets : NDArray or Symbol, shape (B, N)
        -1 ignored, 0 background, 1 … K class of the object.

    Outputs
    -------
    loss : NDArray or Symbol, shape (1,)
        In [0, 1]; exactly 0, with gradient 0, where the batch has no positive.

    Raises
    ------
    ValueError
        If `delta` is not a positive number.
    """

    def __init__(self, delta: float = 1.0, interpolated: bool = True, **kwargs):
        super().__init__(**kwargs)
        check_delta(delta)
        self._attributes = {"delta": float(delta), "interpolated": bool(interpolated)}

    def hybrid_forward(self, F, logits, class_targets):
        return F.Custom(logits, class_targets, op_type="aploss", **self._attributes)[0]
