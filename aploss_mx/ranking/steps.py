"""Step functions: how far a difference of scores x_ij = s_j - s_i counts as "j stands above i"."""

from __future__ import annotations

import numpy as np
from scipy.special import expit


def heaviside(x: np.ndarray) -> np.ndarray:
    """Step function of Eq. 4: 0 below 0, 1 from 0 on."""
    return (x >= 0).astype(np.float64)


def piecewise_step(x: np.ndarray, delta: float) -> np.ndarray:
    """Step function of Eq. 14: 0 below -delta, 1 above delta, a straight line between."""
    return np.clip(x / (2 * delta) + 0.5, 0.0, 1.0)


def smoothstep(x: np.ndarray, delta: float) -> np.ndarray:
    """Cubic ramp of half width `delta` without a bend at its ends; 1.5 times as steep at 0 as `piecewise_step`."""
    ramp = piecewise_step(x, delta)
    return ramp * ramp * (3 - 2 * ramp)


def logistic(x: np.ndarray, delta: float) -> np.ndarray:
    """Logistic function of temperature delta / 2: as steep at 0 as `piecewise_step`, but with tails."""
    return expit(2 * x / delta)
