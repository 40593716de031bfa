#!/usr/bin/env python
"""Show how the time of the exact AP-loss and its gradient grows with the negatives and with the positives.

python scripts/benchmarks/growth.py --output growth.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import check_target, replacing, write_csv
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import positive_int
from aploss_mx.progress import track
from aploss_mx.ranking.exact import ap_loss_and_grad
from aploss_mx.ranking.random_scores import REGIMES, random_scores
from aploss_mx.timing import median_seconds

SCORES = tuple(int(number) for number in np.logspace(5, np.log10(2e7), 8))
POSITIVES = tuple(int(number) for number in np.logspace(1, np.log10(2e4), 8))
FIXED_SCORES, FIXED_POSITIVES = 5_000_000, 600
STYLES = {"early": ("o", "-"), "mid": ("s", "--"), "late": ("^", ":")}

EPILOG = """\
The slope of a line through the points, both axes logarithmic, is the power of the growth: 1 where the time is in
proportion, as that of a loop over the positives would be in the second panel.
"""


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the power with which seconds grow: the slope of the best line in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(scores: list[int], positives: list[int], repeats: int) -> list[dict[str, object]]:
    """Return a row for each point of both panels."""
    points = [("scores", size, FIXED_POSITIVES) for size in scores]
    points += [("positives", FIXED_SCORES, count) for count in positives]
    ap_loss_and_grad(*random_scores(2, 1, "early", seed=0))  # loads, or compiles, the passes, which is not timed
    rows = []
    for regime in REGIMES:
        for panel, size, count in track(points, regime, leave=False):
            seconds = median_seconds(repeats, ap_loss_and_grad, *random_scores(size, count, regime, seed=0))
            rows.append({"panel": panel, "regime": regime, "scores": size, "positives": count, "seconds": seconds})
    return rows


def draw(rows: list[dict[str, object]], path: Path) -> list[str]:
    """Draw both panels; return a line of text for each curve."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    lines = []
    for axes, panel in zip(figure.subplots(1, 2, sharey=True), ("scores", "positives")):
        for regime, (marker, style) in STYLES.items():
            curve = [row for row in rows if (row["panel"], row["regime"]) == (panel, regime)]
            sizes, seconds = ([row[name] for row in curve] for name in (panel, "seconds"))
            power = slope(sizes, seconds)
            times = f"{seconds[0]:.4f} s to {seconds[-1]:.4f} s"
            lines.append(f"{regime}: {panel} {sizes[0]:,} to {sizes[-1]:,}: {times}, slope {power:.2f}")
            axes.loglog(sizes, seconds, marker=marker, linestyle=style, label=f"{regime}, slope {power:.2f}")
        fixed = f"{FIXED_POSITIVES:,} positives" if panel == "scores" else f"{FIXED_SCORES:,} scores"
        axes.set(xlabel=f"{panel} ({fixed})")
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(title="scores as in training")
    figure.axes[0].set_ylabel("loss and gradient (s)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="PNG", help="picture; a CSV goes beside it"
    )
    for flag, sizes, panel in (("--scores", SCORES, "first"), ("--positives", POSITIVES, "second")):
        default = f"{len(sizes)} from {sizes[0]:,} to {sizes[-1]:,}"
        parser.add_argument(
            flag, nargs="+", type=positive_int, default=sizes, help=f"sizes of the {panel} panel (default: {default})"
        )
    parser.add_argument("--repeats", type=positive_int, default=3, help="runs of each point (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.output.suffix != ".png":
        parser.error(f"--output {arguments.output}: the picture is a .png file")
    if min(arguments.scores) <= FIXED_POSITIVES or max(arguments.positives) >= FIXED_SCORES:
        parser.error("there must be more scores than positives")
    if min(len(set(sizes)) for sizes in (arguments.scores, arguments.positives)) < 2:
        parser.error("--scores and --positives take two numbers or more: one tells no slope")
    table = arguments.output.with_suffix(".csv")
    with readable_errors():
        check_target(table)
        rows = measure(sorted(arguments.scores), sorted(arguments.positives), arguments.repeats)
        print("\n".join(draw(rows, arguments.output)))
        write_csv(table, rows)
        print(f"wrote {arguments.output}, {table}")


if __name__ == "__main__":
    main()
