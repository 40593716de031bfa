"""Plot the experiments: each curve told apart by line style and marker, without its colour."""

from __future__ import annotations

from functools import partial
from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aploss_mx.palette import BLUE, CURVES
from aploss_mx.ranking.error_driven import error_driven_update
from aploss_mx.ranking.steps import heaviside, piecewise_step
from aploss_mx.theory import counterexample, linear, observation, rankings
from aploss_mx.theory.ramps import STEPS, ap_losses, learn_with

COMPARISON_STEPS = 400  # of a learner on data that cannot be separated


def observation_1(rng: np.random.Generator) -> tuple[Figure, str]:
    """Observation 1: the update with softmax and with the augmented step, beside the gradients that it equals."""
    figure, axes = _figure(1)
    margins = np.linspace(-4, 4, 400)
    for (name, (activation, gradient)), (color, style) in zip(observation.LOSSES.items(), CURVES[1:]):
        values = [gradient(np.array([margin, 0.0]), 0)[0] for margin in margins]
        axes.plot(margins, values, color=color, linestyle=style, label=f"gradient of the {name}")
        dots = margins[10::20]
        updates = [error_driven_update(np.array([margin, 0.0]), np.array([1, 0]), activation)[1][0] for margin in dots]
        axes.plot(dots, updates, "o", color=color, fillstyle="none", label=f"update, {activation.__name__}")
    axes.set(
        xlabel="score of the true class − score of the other (logits)", ylabel="gradient of the true class's score"
    )
    axes.set_title("Observation 1: the update is the gradient")
    axes.legend(frameon=False)
    largest = ", ".join(f"{name} {observation.largest_difference(name, rng):.1e}" for name in observation.LOSSES)
    return figure, f"largest difference between update and gradient on random scores: {largest}"


def convergence(problems: Sequence[linear.LinearProblem]) -> tuple[Figure, str]:
    """Proposition 1: steps to a perfect ranking on separable problems, against their bound."""
    runs = [linear.learn(problem, 1_000_000) for problem in problems]
    steps = np.array([len(learned.losses) - 1 for learned in runs])
    perfect = sum(learned.losses[-1] == 0 for learned in runs)
    bounds = np.array([linear.most_steps(problem) for problem in problems])
    figure, axes = _figure(1)
    edges = np.geomspace(1, max(bounds.max(), steps.max()) * 1.1, 40)
    axes.hist(steps, edges, color=BLUE, label="steps taken, T")
    axes.hist(bounds, edges, histtype="step", color="black", linewidth=1.5, hatch="///", label="|P| (|P| + 1) R² / γ²")
    axes.set(xscale="log", xlabel="steps to AP-loss 0", ylabel="separable problems (count)")
    axes.set_title("Proposition 1: convergence in finitely many steps")
    axes.legend(frameon=False)
    return figure, (
        f"{len(problems)} separable problems: {perfect} ranked perfectly, {steps.min()} to {steps.max()} steps (median "
        f"{np.median(steps):g}), at most {(steps / bounds).max():.1%} of what the bound allows"
    )


def accumulated_loss(problem: linear.LinearProblem) -> tuple[Figure, str]:
    """The bound A <= H(u) + |u| R sqrt(A) on data that cannot be separated, as the steps go on."""
    counts = np.unique(np.geomspace(1, COMPARISON_STEPS, 16).astype(int))
    runs = [linear.learn(problem, count) for count in counts]
    totals = np.array([learned.losses[:-1].sum() for learned in runs])
    direction = runs[-1].path[-1] / np.linalg.norm(runs[-1].path[-1])
    figure, axes = _figure(1)
    axes.plot(counts, totals / counts, color="black", marker="o", label="A / steps")
    tightest = np.inf
    for length, (color, style), marker in zip((0.3, 1, 3), CURVES[1:], "s^v"):
        bounds = np.array([linear.largest_accumulated_loss(problem, learned, length * direction) for learned in runs])
        axes.plot(
            counts, bounds / counts, color=color, linestyle=style, marker=marker, label=f"bound, |u| = {length:g}"
        )
        tightest = min(tightest, bounds[-1])
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="AP-loss a step, mean over the steps")
    axes.set_title("Not separable: A ≤ H(u) + |u| R √A")
    axes.legend(frameon=False)
    return figure, (
        f"a problem that cannot be separated: accumulated AP-loss {totals[-1]:.2f} after {counts[-1]} steps, the "
        f"tightest of the bounds drawn is {tightest:.2f}"
    )


def stuck_descent() -> tuple[Figure, str]:
    """The counterexample: smoothed AP has a local minimum on separable data."""
    descent, smooth = counterexample.descend(3000)
    problem = counterexample.PROBLEM
    perceptron = linear.learn(problem, 1000, theta=counterexample.START)
    figure, (landscape, curves) = _figure(2)
    x, y = np.linspace(-3, 4, 71), np.linspace(-1, 4, 51)
    heights = [[counterexample.smoothed(np.array([a, b]))[0] for a in x] for b in y]
    levels = landscape.contour(x, y, heights, levels=np.arange(0.05, 0.8, 0.05), cmap="Greys", linewidths=1)
    landscape.clabel(levels, levels.levels[::2], fontsize=7, colors="black")
    for path, name, (color, style), marker in (
        (descent, "gradient descent", CURVES[2], "X"),
        (perceptron.path, "error-driven update", CURVES[1], "o"),
    ):
        landscape.plot(*path.T, color=color, linestyle=style, linewidth=2, label=name)
        landscape.plot(*path[-1], color=color, marker=marker, markersize=9, linestyle="none")
    landscape.plot(*counterexample.START, "k*", markersize=11, linestyle="none", label="start")
    landscape.set(xlabel="θ₁", ylabel="θ₂", title="1 − AP smoothed by sigmoids")
    landscape.legend(loc="upper right", fontsize=8)
    final = np.array([1 - rankings.average_precision(problem.features @ theta, problem.labels) for theta in descent])
    curves.plot(smooth, color=CURVES[2][0], linestyle=":", label="gradient descent, smoothed 1 − AP")
    curves.plot(final, color=CURVES[2][0], linestyle="-.", label="gradient descent, AP-loss")
    curves.plot(perceptron.losses, color=CURVES[1][0], linestyle="-", marker="o", label="error-driven update, AP-loss")
    curves.set(
        xscale="symlog", xlabel="step", ylabel="loss (0 to 1)", ylim=(-0.02, 0.6), title="Separable, and yet stuck"
    )
    curves.legend(frameon=False, fontsize=8)
    return figure, (
        f"separable problem (margin {linear.margin(problem):.2f}): gradient descent ends at smoothed loss "
        f"{smooth[-1]:.4f}, AP-loss {final[-1]:.4f}; the error-driven update reaches 0 in {len(perceptron.losses) - 1} "
        "step(s)"
    )


def score_shift() -> tuple[Figure, str]:
    """§3.4: what the ranking of each image alone cannot see."""
    figure, (strips, curves) = _figure(2)
    logits, class_targets = rankings.shifted_images(8.0)
    for row in range(2):
        for label, marker, name in ((0, "o", "negative"), (1, "^", "positive")):
            scores = logits[row, class_targets[row] == label, 0]
            face = "none" if label == 0 else BLUE
            strips.scatter(scores, np.full(len(scores), row), marker=marker, s=60, facecolor=face, edgecolor="black",
                           label=name if row == 0 else None)  # fmt: skip
    strips.set(xlabel="score (logit)", yticks=[0, 1], yticklabels=["image 1", "image 2"], ylim=(-0.6, 1.8))
    strips.set_title("Each ranked perfectly, 8 apart")
    strips.legend(frameon=False, ncol=2, loc="upper center")
    shifts = np.linspace(0, 12, 61)
    losses = np.array([rankings.score_shift_losses(shift) for shift in shifts])
    for name, column, (color, style) in zip(("each image for itself", "both together"), losses.T, CURVES):
        curves.plot(shifts, column, color=color, linestyle=style, label=name)
    curves.set(xlabel="shift between the images (logits)", ylabel="AP-loss (0 to 1)", title="What a batch sees")
    curves.legend(frameon=False)
    alone, together = rankings.score_shift_losses(8.0)
    return figure, f"two images 8 logits apart: AP-loss {alone:.3f} image by image, {together:.3f} as one ranking"


def ramps(problem: linear.LinearProblem) -> tuple[Figure, str]:
    """§3.4: other steps, and the trade of delta with weight decay."""
    figure, (curves, lengths) = _figure(2)
    ends = []
    for (name, step), (color, style) in zip(STEPS.items(), CURVES):
        losses = ap_losses(problem, learn_with(problem, step, COMPARISON_STEPS, rate=0.1))
        curves.plot(losses, color=color, linestyle=style, label=name)
        ends.append(f"{name} {losses[-50:].mean():.3f}")
    curves.set(xscale="symlog", xlabel="step", ylabel="AP-loss (Heaviside step)", title="Three step functions, δ = 1")
    curves.legend(frameon=False)
    deltas = np.array([0.25, 0.5, 1, 2, 4])
    for wd, (color, style), marker in zip((0.01, 0.03, 0.1), CURVES, "os^"):
        ends_at = [
            np.linalg.norm(learn_with(problem, piecewise_step, 3000, delta, rate=0.1, wd=wd).path[-1])
            for delta in deltas
        ]
        lengths.plot(deltas, ends_at, color=color, linestyle=style, marker=marker, label=f"weight decay {wd:g}")
    lengths.set(xscale="log", yscale="log", xlabel="δ (logits)", ylabel="length of the weights after 3000 steps")
    lengths.set(title="Smaller δ and more decay both shrink the weights", xticks=deltas)
    lengths.set_xticklabels([f"{delta:g}" for delta in deltas])
    lengths.minorticks_off()
    lengths.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lengths.yaxis.set_major_formatter("{x:g}")
    lengths.legend(frameon=False)
    return figure, "AP-loss of the last 50 steps by step function: " + ", ".join(ends)


def accuracy_and_ap() -> tuple[Figure, str]:
    """Figure 1: easy negatives raise accuracy and leave AP where it is."""
    counts = np.unique(np.geomspace(1, 100_000, 60).astype(int))
    values = np.array([rankings.accuracy_and_ap(count) for count in counts])
    figure, axes = _figure(1)
    for name, column, (color, style) in zip(("classification accuracy", "average precision"), values.T, CURVES):
        axes.plot(counts, column, color=color, linestyle=style, label=name)
    axes.set(xscale="log", xlabel="easy negatives among 12 other anchors", ylabel="0 to 1", ylim=(0, 1.05))
    axes.set_title("Figure 1: a poor detector looks accurate, its AP tells")
    axes.legend(frameon=False)
    return figure, f"with {counts[-1]:,} easy negatives: accuracy {values[-1, 0]:.4f}, AP {values[-1, 1]:.2f}"


def step_functions() -> tuple[Figure, str]:
    """Figure 4: the Heaviside step and its piecewise linear stand-ins."""
    x = np.linspace(-3, 3, 1201)
    figure, axes = _figure(1)
    functions = {"Heaviside": heaviside, **{f"δ = {d:g}": partial(piecewise_step, delta=d) for d in (0.25, 0.5, 1, 2)}}
    for (name, function), (color, style) in zip(functions.items(), CURVES):
        axes.plot(x, function(x), color=color, linestyle=style, label=name)
    axes.set(xlabel="difference of scores x_ij = s_j − s_i (logits)", ylabel="f(x)", title="Figure 4: step functions")
    axes.legend(frameon=False)
    return figure, "step functions drawn"


def optimisers(curves: dict[str, np.ndarray]) -> tuple[Figure, str]:
    """Figure 5b: training AP-loss of three ways to lower it."""
    figure, axes = _figure(1)
    for (name, losses), (color, style) in zip(curves.items(), CURVES):
        axes.plot(np.arange(1, len(losses) + 1), losses, color=color, linestyle=style, label=name)
    axes.set(xlabel="step (mini-batches)", ylabel="AP-loss of the batch (0 to 1)", ylim=(0, 1.02))
    axes.set_title("Figure 5b at small scale, without box regression")
    axes.legend(frameon=False)
    tail = max(1, min(len(losses) for losses in curves.values()) // 10)
    ends = ", ".join(f"{name} {losses[-tail:].mean():.3f}" for name, losses in curves.items())
    return figure, f"mean AP-loss of the last {tail} steps: {ends}"


def _figure(columns: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.5 * columns, 4), constrained_layout={"w_pad": 0.1})
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.grid(color="0.9", linewidth=0.7)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes
