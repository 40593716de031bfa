"""Rank the batches of all devices of this machine as one, instead of each for itself."""

from __future__ import annotations

from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd

from aploss_mx.ranking.problem import Method, solve_anchors


def rank_together(
    method: Method, logits: Sequence[np.ndarray], class_targets: Sequence[np.ndarray]
) -> tuple[float, list[np.ndarray]]:
    """Return loss and gradients of several devices' outputs as one batch: those of `problem.solve_anchors` on it.

    Parameters
    ----------
    method : Method
    logits : sequence of ndarray of float, shape (B, N, K) each
    class_targets : sequence of ndarray, shape (B, N) each

    Returns
    -------
    loss : float
    grads : list of ndarray of float32, shape (B, N, K) each

    Raises
    ------
    ValueError
        As `problem.solve_anchors`.
    """
    loss, grad = solve_anchors(method, np.concatenate(logits), np.concatenate(class_targets))
    return loss, np.split(grad, np.cumsum([len(images) for images in logits])[:-1])


def backward_together(
    method: Method,
    logits: Sequence[mx.nd.NDArray],
    class_targets: Sequence[mx.nd.NDArray],
    box_losses: Sequence[mx.nd.NDArray],
) -> np.ndarray:
    """Backpropagate so that the mean of the devices' gradients is that of one device with all their images.

    Parameters
    ----------
    method : Method
    logits, class_targets : sequence of NDArray, one a device
    box_losses : sequence of NDArray, shape (1,) each
        Each divided by its own device's positives.

    Returns
    -------
    ndarray of float64, shape (devices, 2)
        Class and box loss, the first the same for all; their means over the devices are the losses.
    """
    devices = len(logits)
    loss, grads = rank_together(method, *([array.asnumpy() for array in arrays] for arrays in (logits, class_targets)))
    positives = np.array([float((targets > 0).sum().asscalar()) for targets in class_targets])
    shares = positives / max(1.0, positives.sum()) * devices
    heads = [mx.nd.array(devices * grad, array.context) for grad, array in zip(grads, logits)]
    heads += [mx.nd.full((1,), share, array.context) for share, array in zip(shares, box_losses)]
    autograd.backward([*logits, *box_losses], heads)
    boxes = [share * box_loss.asscalar() for share, box_loss in zip(shares, box_losses)]
    return np.array([[loss, box_loss] for box_loss in boxes])
