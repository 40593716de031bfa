"""Say what a reader of a run's figures should know first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from aploss_mx.data.check import check_crowding
from aploss_mx.inspection.findings import Findings
from aploss_mx.inspection.run_folder import RunFolder
from aploss_mx.page.gallery import LEVELS
from aploss_mx.page.render import percent
from aploss_mx.page.tables import fewest

FEW_TRAINED, FEW_TESTED = 100, 20  # objects of a class
STILL = 0.01  # AP gained in a training's last quarter, or share of the loss lost, that says that it was not at its end


class Advice(NamedTuple):
    """A warning: what about, and what it is."""

    about: str
    text: str


def advice_on_run(run: RunFolder, findings: Findings | None = None) -> list[Advice]:
    """Return warnings about a training, and one where the findings are not those of its last evaluation."""
    found = []
    if findings and findings.metrics is not run.metrics:
        text = "Or the rules, since the run's last evaluation: all but the curves of the training is measured anew."
        found.append(Advice("Labels have changed", text))
    log = run.log
    evaluations = log.dropna(subset=["AP"])
    ends = run.recipe.epochs
    if len(evaluations):
        last, best = evaluations.iloc[-1], evaluations.loc[evaluations["AP"].idxmax()]
        # At one rate: what a decay gains, more epochs need not.
        begin = max([0.75 * ends, *(epoch for epoch in run.recipe.lr_decay_epoch if epoch < ends)])
        first = evaluations[evaluations["epoch"] >= begin].iloc[:1]
        gained = last["AP"] - first["AP"].sum()
        if len(first) and last["AP"] == best["AP"] and gained > STILL:
            text = f"AP rose by {100 * gained:.1f} points from epoch {first['epoch'].iloc[0]:.0f} on: more would help."
            found.append(Advice("Still improving", text))
        if best["AP"] - last["AP"] > STILL:
            text = (
                f"AP was {percent(best['AP'])} after epoch {best['epoch']:.0f} and {percent(last['AP'])} at the end; "
                "best.npz has the weights of the best evaluation since the test settings last changed."
            )
            found.append(Advice("Past its best", text))
    losses = log["loss"].dropna().to_numpy()
    decays = any(0.8 * ends < epoch < ends for epoch in run.recipe.lr_decay_epoch)
    if len(evaluations) < 2 and len(losses) >= 20 and not decays:
        part = len(losses) // 10
        before, after = losses[-2 * part : -part].mean(), losses[-part:].mean()
        if after < before * (1 - 5 * STILL):
            text = f"The loss fell from {before:.3g} to {after:.3g} in the last tenth of the training."
            found.append(Advice("Still improving", text))
    if len(evaluations):
        last = evaluations.iloc[-1]
        done = log["step"].max() * last["epoch"] // last["step"]  # rows of steps name the epoch at work
        if done < ends:
            found.append(Advice("Not finished", f"{done:.0f} of {ends} epochs are done; --resume auto goes on."))
    few = {name: count for name, count in run.note.get("train_objects", {}).items() if count < FEW_TRAINED}
    if few:
        found.append(Advice("Few objects to learn from", f"{fewest(few)}."))
    return found


def advice_on_findings(findings: Findings, max_detections: int | None = None) -> list[Advice]:
    """Return warnings about an evaluation, of a detector that keeps so many boxes on an image, where that is known."""
    found = []
    if not len(findings.found.labels):
        return [Advice("Nothing was found", "There is not one detection. Has the network learnt at all?")]
    start, measure = findings.start / LEVELS, findings.measure
    if findings.metrics.get("best_F1_score") is not None:
        score = findings.metrics["best_F1_score"]
        text = f"Shown is what scores {score:.4g} or more" + (
            f", a confidence of {start:.3f}" * bool(findings.calibration)
        )
        found.append(Advice("Score threshold", f"{text}: the threshold with the best F1 on these pictures."))
    if findings.ends != (0, 1):
        low, high = findings.ends
        text = f"Scores from {low:.4g} to {high:.4g} are no probabilities: the slider has them on a scale from 0 to 1."
        found.append(Advice("Not calibrated", text))
    elif findings.calibration is None:
        text = "Too few detections are right, or wrong, to fit a calibration: the slider is of scores, which only rank."
        found.append(Advice("Not calibrated", text))
    few = {name: int(count) for name, count in zip(findings.classes, findings.counts) if count < FEW_TESTED}
    if few:
        found.append(Advice("Few objects to test on", f"{fewest(few)}. The {measure}s and AP of these say little."))
    most = math.inf if max_detections is None else max_detections
    crowded = [problem for sample in findings.samples for problem in check_crowding(sample, most)]
    if crowded:
        text = f"So have {len(crowded)} pictures, such as {Path(crowded[0].file).name}: {crowded[0].message}."
        found.append(Advice("More objects than detections", text))
    return found
