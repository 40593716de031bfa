"""A separable problem on which gradient descent on smoothed AP gets stuck, and the error-driven update does not.

Found by drawing small integers at random and looking for local minima. All three positives lie right of the line
x = -1 and both negatives left of it: theta = (1, 0) ranks perfectly, with a margin of 4. Yet from theta = (0, 2)
descent runs into a minimum where one negative stands above all positives by so much that its sigmoids are flat, and
what is left to gain is the positives' order among themselves.
"""

from __future__ import annotations

import numpy as np

from aploss_mx.ranking.smooth_ap import smooth_ap_loss_and_grad
from aploss_mx.theory.linear import LinearProblem

PROBLEM = LinearProblem(
    np.array([[2.0, 0.0], [5.0, 1.0], [0.0, -2.0], [-4.0, 5.0], [-4.0, -5.0]]), np.array([1, 1, 1, 0, 0])
)
START = np.array([0.0, 2.0])
TEMPERATURE = 1.0


def smoothed(theta: np.ndarray) -> tuple[float, np.ndarray]:
    """Return 1 - AP of the problem, smoothed by sigmoids, and the gradient of -log(AP) in theta, shape (2,)."""
    loss, grad = smooth_ap_loss_and_grad(PROBLEM.features @ theta, PROBLEM.labels, TEMPERATURE, epsilon=1e-12)
    return 1 - float(np.exp(-loss)), PROBLEM.features.T @ grad.astype(np.float64)


def descend(steps: int, rate: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Descend on smoothed AP from START: returns theta at each step, shape (steps + 1, 2), and the smoothed 1 - AP."""
    theta, path, losses = START, [], []
    for _ in range(steps + 1):
        loss, grad = smoothed(theta)
        path.append(theta)
        losses.append(loss)
        theta = theta - rate * grad
    return np.array(path), np.array(losses)
