"""Follow Algorithm 1 of the AP-loss paper as it is printed: slow, obvious, and the oracle of the tests."""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.checks import check_delta, check_labels
from aploss_mx.ranking.steps import piecewise_step


def ap_loss_and_grad(
    scores: np.ndarray, labels: np.ndarray, delta: float = 1.0, interpolated: bool = True
) -> tuple[float, np.ndarray]:
    """AP-loss and its error-driven gradient by Algorithm 1, in float64, O(P (P + N)).

    Arguments, results and errors are those of `aploss_mx.ranking.exact.ap_loss_and_grad`.
    """
    scores, labels = check_labels(scores, labels)
    check_delta(delta)
    s, t = scores.astype(np.float64).ravel(), labels.ravel()
    g = np.zeros_like(s)
    P, N = np.flatnonzero(t == 1), np.flatnonzero(t == 0)

    if not np.isfinite(s[t >= 0]).all():
        g[t >= 0] = np.nan
        return float("nan"), g.reshape(scores.shape).astype(np.float32)
    if len(P) == 0:
        return 0.0, g.reshape(scores.shape).astype(np.float32)

    max_prec = 0.0
    sum_prec = 0.0
    for i in P[np.argsort(s[P], kind="stable")]:
        others = P[P != i]
        rank_pos = 1 + piecewise_step(s[others] - s[i], delta).sum()
        f_neg = piecewise_step(s[N] - s[i], delta)
        rank = rank_pos + f_neg.sum()
        L = f_neg / rank
        prec = rank_pos / rank
        if interpolated:
            if prec >= max_prec:
                max_prec = prec
            else:
                L *= (1 - max_prec) / (1 - prec)
                prec = max_prec
        g[i] -= L.sum()
        g[N] += L
        sum_prec += prec
    return float(1 - sum_prec / len(P)), (g / len(P)).reshape(scores.shape).astype(np.float32)
