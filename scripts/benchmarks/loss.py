#!/usr/bin/env python
"""Time the exact AP-loss side by side with the loop over positives that it replaces, and with other losses.

Both compute loss and gradient of the same float32 scores in the same process. The loop is Algorithm 1 of Chen et al.
(CVPR 2019) in float32 NumPy: negatives below the lowest positive by more than delta are left out first, which is
lossless, and every positive then takes one pass over the others.

The second table times forward and backward pass of every loss of aploss_mx.losses, as Gluon blocks on the CPU, on the
logits and class targets of 2 images (size small) or 8 (voc): what each of them adds to a training step.
"""

from __future__ import annotations

import argparse
import math
import platform
import tracemalloc
from dataclasses import replace
from typing import Callable, NamedTuple

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import check_target, write_csv
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import count, nonnegative, positive_int
from aploss_mx.config import SETTINGS_OF_LOSSES, Recipe
from aploss_mx.losses.from_recipe import make_class_loss
from aploss_mx.ranking.exact import ap_loss, ap_loss_and_grad
from aploss_mx.ranking.problem import solve_labels
from aploss_mx.ranking.random_scores import BATCHES, REGIMES, random_batch, random_scores
from aploss_mx.report.markdown import format_head, format_row
from aploss_mx.timing import median_seconds, timed

DELTA = 1.0
FIRST_POSITIVES = 3  # visited to estimate what the whole loop would take

SIZES = {name: (math.prod(shape), positives) for name, (shape, positives) in BATCHES.items()}  # scores, positives
CONTENDERS = ("small", "voc")  # sizes of which the second table takes a batch

EPILOG = """\
columns
  kept       negatives that reach the lowest positive's score - delta; the others take no part in either method
  exact      seconds of aploss_mx.ranking.exact.ap_loss_and_grad, the median of --repeats
  NumPy      the same without numba's passes, as where the extra `fast` is not installed
  loop       seconds of one run over all positives; where that is estimated to exceed --loop-seconds, only the
             first k are visited and their time scaled by P/k (the pruning before them counted once), and the row
             is marked ~ with its k; --complete visits all
  speed-up   loop / exact
  distance   L1 distance of the two gradients divided by the L1 norm of the exact one; where the loop ran in full
  copies     exact / seconds of one np.copyto of the scores
  memory     peak of what the exact one allocates, its gradient included, divided by the bytes of the scores:
             from tracemalloc, to which NumPy reports, in a run of its own that is not timed

columns of the contenders' table
  seconds    median of --repeats, forward and backward pass
  to ap      the same divided by that of ap

examples
  python scripts/benchmarks/loss.py --sizes small
  python scripts/benchmarks/loss.py --sizes voc coco --complete --output loss.csv
"""


class PairedScores(NamedTuple):
    """What the loop compares: places of positives and kept negatives, and their scores / (2 delta)."""

    positives: np.ndarray
    negatives: np.ndarray
    positive_scores: np.ndarray
    negative_scores: np.ndarray


def prune(scores: np.ndarray, labels: np.ndarray) -> PairedScores:
    """Leave out the negatives that no positive's step function sees, and the ignored ones."""
    positives = np.flatnonzero(labels == 1)
    negatives = np.flatnonzero((labels == 0) & (scores >= scores[positives].min() - np.float32(DELTA)))
    width = np.float32(2 * DELTA)
    return PairedScores(positives, negatives, scores[positives] / width, scores[negatives] / width)


def visit_positives(pairs: PairedScores, visits: int | None = None) -> tuple[float, np.ndarray, np.ndarray]:
    """Loop over the positives in ascending order; stop after `visits` of them to time a part.

    Returns
    -------
    loss : float
    positive_grad, negative_grad : ndarray of float32
        In the order of `pairs`.
    """
    count = len(pairs.positives)
    steps, negative_grad = np.empty_like(pairs.negative_scores), np.zeros_like(pairs.negative_scores)
    positive_grad = np.zeros_like(pairs.positive_scores)
    loss, max_precision = 0.0, 0.0
    for i in np.argsort(pairs.positive_scores, kind="stable")[:visits]:
        zero = pairs.positive_scores[i] - np.float32(0.5)
        # The positive's own f(0) = 0.5 is in the sum; its rank counts it as 1.
        positive_rank = float(np.clip(pairs.positive_scores - zero, 0, 1).sum()) + 0.5
        np.subtract(pairs.negative_scores, zero, out=steps)
        np.clip(steps, 0, 1, out=steps)
        above = float(steps.sum())
        max_precision = max(max_precision, positive_rank / (positive_rank + above))
        error = (1 - max_precision) / count
        if above > 0:
            steps *= np.float32(error / above)
            negative_grad += steps
        positive_grad[i] = -error
        loss += error
    return loss, positive_grad, negative_grad


def loop_ap_loss_and_grad(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Interpolated AP-loss and gradient by a loop over the positives, in float32.

    Parameters
    ----------
    scores : ndarray of float32, shape (M,)
    labels : ndarray, shape (M,)
        1 positive, 0 negative, -1 ignored; at least one positive.

    Returns
    -------
    loss : float
    grad : ndarray of float32, shape (M,)
    """
    pairs = prune(scores, labels)
    grad = np.zeros_like(scores)
    loss, grad[pairs.positives], grad[pairs.negatives] = visit_positives(pairs)
    return loss, grad


def time_loop(
    scores: np.ndarray, labels: np.ndarray, budget: float, complete: bool
) -> tuple[float, int, np.ndarray | None]:
    """Time the loop over positives, in full if it is wanted or fits the budget.

    Returns
    -------
    seconds : float
        Of the whole loop: measured, or scaled from a part of it.
    visits : int
        Positives visited for that.
    grad : ndarray or None
        The gradient of a loop in full.
    """
    preparation, pairs = timed(prune, scores, labels)
    positives = len(pairs.positives)
    estimate = preparation + median_seconds(2, visit_positives, pairs, FIRST_POSITIVES) * positives / FIRST_POSITIVES
    if complete or estimate <= budget:
        elapsed, (_, grad) = timed(loop_ap_loss_and_grad, scores, labels)
        return elapsed, positives, grad
    visits = max(FIRST_POSITIVES, int(positives * budget / estimate))
    return preparation + timed(visit_positives, pairs, visits)[0] * positives / visits, visits, None


def peak_memory(function: Callable, *args) -> int:
    """Return the most bytes that one call holds beyond its arguments, its result included."""
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def benchmark(size: int, positives: int, regime: str, args: argparse.Namespace) -> dict[str, object]:
    """Measure one row of the table."""
    scores, labels = random_scores(size, positives, regime, args.seed)
    loss, grad = ap_loss_and_grad(scores, labels, DELTA)
    exact = median_seconds(args.repeats, ap_loss_and_grad, scores, labels, DELTA)
    copy = median_seconds(args.repeats, np.copyto, np.zeros_like(scores), scores)
    numpy = median_seconds(args.repeats, solve_labels, replace(ap_loss(DELTA), compiled=False), scores, labels)
    loop, visits, loop_grad = time_loop(scores, labels, args.loop_seconds, args.complete)
    distance = None
    if loop_grad is not None:
        distance = np.abs(grad - loop_grad).sum(dtype=np.float64) / np.abs(grad).sum(dtype=np.float64)
    return {
        "scores": size,
        "positives": positives,
        "regime": regime,
        "kept": len(prune(scores, labels).negatives),
        "loss": loss,
        "exact_seconds": exact,
        "numpy_seconds": numpy,
        "loop_seconds": loop,
        "loop_visits": visits,
        "loop_complete": loop_grad is not None,
        "speed_up": loop / exact,
        "distance": distance,
        "copies": exact / copy,
        "memory": peak_memory(ap_loss_and_grad, scores, labels, DELTA) / scores.nbytes,
    }


def time_contenders(size: str, regime: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """Measure a row for each loss on the same logits."""
    logits, class_targets = random_batch(*BATCHES[size], regime, args.seed)
    background = np.zeros((*logits.shape[:2], 1), np.float32)
    rows = []
    for name in SETTINGS_OF_LOSSES:
        recipe = Recipe(loss=name)
        block = make_class_loss(recipe)
        block.hybridize()
        inputs = mx.nd.array(np.concatenate([background, logits], axis=2) if recipe.background else logits)
        targets = mx.nd.array(class_targets)
        inputs.attach_grad()

        def step(block=block, inputs=inputs, targets=targets) -> float:
            with autograd.record():
                loss = block(inputs, targets)
            loss.backward()
            inputs.grad.wait_to_read()
            return loss.asscalar()

        value = step()
        seconds = median_seconds(args.repeats, step)
        rows.append({"scores": logits.size, "regime": regime, "contender": name, "value": value, "seconds": seconds})
    for row in rows:
        row["to_ap"] = row["seconds"] / rows[0]["seconds"]
    return rows


CONTENDER_HEADER = ["scores", "regime", "loss", "value", "seconds", "to ap"]


def contender_line(row: dict[str, object]) -> str:
    """Format one measured row under `CONTENDER_HEADER`."""
    forms = ("{:,}", "{}", "{}", "{:.4f}", "{:.4f}", "{:.2f}×")
    return format_row(form.format(value) for form, value in zip(forms, row.values()))


HEADER = ["scores", "positives", "regime", "kept", "loss", "exact (s)", "NumPy (s)", "loop (s)", "speed-up"]
HEADER += ["distance", "copies", "memory"]


def markdown_line(row: dict[str, object]) -> str:
    """Format one measured row under `HEADER`; ~ marks what is scaled from a part of the loop."""
    scaled = "" if row["loop_complete"] else "~"
    part = "" if row["loop_complete"] else f" (k = {row['loop_visits']})"
    return format_row([
        f"{row['scores']:,}",
        f"{row['positives']:,}",
        row["regime"],
        f"{row['kept']:,}",
        f"{row['loss']:.4f}",
        f"{row['exact_seconds']:.4f}",
        f"{row['numpy_seconds']:.4f}",
        f"{scaled}{row['loop_seconds']:.3f}{part}",
        f"{scaled}{row['speed_up']:.1f}×",
        "" if row["distance"] is None else f"{row['distance']:.1e}",
        f"{row['copies']:.1f}×",
        f"{row['memory']:.2f}×",
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = ", ".join(f"{name}: {size:,} scores, {positives:,} positives" for name, (size, positives) in SIZES.items())
    regimes = "early: all N(0, 0.1); mid: negatives N(-2, 1), positives N(0, 1); late: N(-4, 1) and N(2, 1)"
    files = "write the unrounded rows as CSV, too; the contenders' as FILE's stem + _contenders.csv"
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=["voc", "coco"], help=f"{sizes} (default: voc coco)"
    )
    parser.add_argument(
        "--regimes", nargs="+", choices=REGIMES, default=list(REGIMES), help=f"{regimes} (default: all three)"
    )
    parser.add_argument("--repeats", type=positive_int, default=5, help="runs of the exact loss (default: %(default)s)")
    parser.add_argument(
        "--loop-seconds",
        type=nonnegative,
        default=30.0,
        help="for a complete loop, by estimate (default: %(default)s)",
    )
    parser.add_argument("--complete", action="store_true", help="visit all positives, however long it takes")
    parser.add_argument("--seed", type=count, default=0, help="of the random scores (default: %(default)s)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help=files)
    with readable_errors():
        run(parser.parse_args(argv))


def run(args: argparse.Namespace) -> None:
    beside = args.output and args.output.with_name(f"{args.output.stem}_contenders.csv")
    if beside:
        check_target(beside)
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}; delta = {DELTA}, "
        f"exact: median of {args.repeats}\n"
    )
    print(format_head(HEADER))
    rows = []
    for size in args.sizes:
        for regime in args.regimes:
            rows.append(benchmark(*SIZES[size], regime, args))
            print(markdown_line(rows[-1]), flush=True)
    contenders = []
    sizes = [size for size in args.sizes if size in CONTENDERS]
    if sizes:
        print(f"\n{format_head(CONTENDER_HEADER)}")
    for size in sizes:
        for regime in args.regimes:
            measured = time_contenders(size, regime, args)
            print("\n".join(map(contender_line, measured)), flush=True)
            contenders += measured
    if args.output:
        for path, table in {args.output: rows, beside: contenders}.items():
            if table:
                write_csv(path, table)
                print(f"wrote {path}")


if __name__ == "__main__":
    main()
