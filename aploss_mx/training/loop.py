"""Train: data-parallel, logged, evaluated, and resumable after each epoch."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import split_and_load
from tqdm import tqdm

from aploss_mx.atomic import write_text
from aploss_mx.checkpoint import Checkpoint, parameters_of
from aploss_mx.config import Recipe
from aploss_mx.data.loader import EpochSampler, Loader
from aploss_mx.data.sample import Sample
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.postprocess import drop_background
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.evaluation.evaluate import evaluate, format_summary
from aploss_mx.losses import APLoss, BoxLoss
from aploss_mx.losses.from_recipe import make_class_loss, make_sync_method
from aploss_mx.progress import track
from aploss_mx.ranking.measure import HEAVISIDE, score_spread
from aploss_mx.training.distributed import Workers
from aploss_mx.training.interrupt import GracefulInterrupt
from aploss_mx.training.metrics_log import MetricsLog, NoLog
from aploss_mx.training.optimizer import optimizer_states
from aploss_mx.training.options import Options
from aploss_mx.training.resume import omp_num_threads
from aploss_mx.training.schedule import learning_rate
from aploss_mx.training.sync_ranking import backward_together
from symbols.retinanet import RetinaNet


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and which checkpoint is good."""


@dataclass(eq=False)
class TrainingRun:
    """A run of a recipe, as `setup.set_up` makes it: what it trains with, and how far it has come.

    Attributes
    ----------
    recipe : Recipe
    classes : tuple of str
    options : Options
    workers : Workers
    sampler : EpochSampler
    loader, val_loader : Loader
    val_samples : sequence of Sample
    network : RetinaNet
        On all devices.
    pretrained : tuple of str
        Names of its parameters that did not start at random.
    trainer : Trainer
    held : ExitStack
        Closed when the run ends: the lock on its folder.
    log : MetricsLog or NoLog
    epoch, step : int
        Those done.
    seconds : float
        That they took.
    best : dict
        Epoch and metrics of the best evaluation, {} before the first.
    remeasure : bool
        Whether evaluations before this run were of another test.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    options: Options
    workers: Workers
    sampler: EpochSampler
    loader: Loader
    val_samples: Sequence[Sample]
    val_loader: Loader
    network: RetinaNet
    pretrained: tuple[str, ...]
    trainer: mx.gluon.Trainer
    held: ExitStack = field(default_factory=ExitStack)
    log: MetricsLog | NoLog = field(default_factory=NoLog)
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    remeasure: bool = False

    def __post_init__(self) -> None:
        self.all_devices = self.workers.count * len(self.options.devices)
        self.detector = Detector(self.network, self.classes, self.recipe, self.options.devices[0])
        self.class_loss = make_class_loss(self.recipe)
        self.sync_method = make_sync_method(self.recipe)
        self.box_loss = BoxLoss(self.recipe.box_loss_weight, self.recipe.ranking_batch)
        # As `measure_ap_loss`, but on the device that has the scores.
        self.measure = APLoss(HEAVISIDE, interpolated=False, ranking_batch=self.recipe.ranking_batch)
        self._ranked: tuple[mx.nd.NDArray, ...] = ()

    def run(self) -> dict[str, Any]:
        """Train to the last epoch and return the last evaluation's metrics, as `evaluation.evaluate` gives them.

        Of several workers, the first one evaluates; the others return an empty dict.

        Raises
        ------
        TrainingError
            If a loss or a parameter is not finite.
        """
        try:
            metrics = self._run()
            self.workers.wait_for_all()  # while it is watched: MXNet would wait, too
            return metrics
        finally:
            self.log.close()
            self.held.close()

    def _run(self) -> dict[str, Any]:
        self._start = time.monotonic() - self.seconds
        metrics: dict[str, Any] = {}
        steps = self.recipe.epochs * len(self.sampler)
        bar = track(total=steps, initial=self.step, unit="steps", hidden=not self.workers.leads)
        with bar, GracefulInterrupt() as interrupt:
            due = self._evaluates_after(self.epoch) and self.step not in self.log.evaluated
            if due or (self.remeasure and self.workers.leads):
                metrics = self._evaluate_and_log(self._checkpoint_now(), interrupt)
            while self.epoch < self.recipe.epochs:
                bar.set_description(f"epoch {self.epoch + 1}/{self.recipe.epochs}")
                self.train_one_epoch(bar, interrupt)
                self.epoch += 1
                metrics = self._save_and_evaluate(interrupt) or metrics
                interrupt.check()
        if metrics or not self.workers.leads:
            return metrics
        with self.workers.alone():
            return self.evaluate()

    def _save_and_evaluate(self, interrupt: GracefulInterrupt) -> dict[str, Any]:
        """Save the epoch that has ended; evaluate it and return its metrics if its turn has come, else {}."""
        checkpoint = self._checkpoint_now()
        if self.workers.leads:
            checkpoint.save(self.options.last)
        return self._evaluate_and_log(checkpoint, interrupt) if self._evaluates_after(self.epoch) else {}

    def evaluate(self, after_batch: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Evaluate on the validation samples; writes ``detections.json`` and ``metrics.json``."""
        self._free_buffers()
        detections = self.detector.detect(self.val_samples, self.val_loader, after_batch)
        self._free_buffers()
        metrics = evaluate(self.val_samples, detections, self.classes)
        folder = self.options.save_prefix
        save_detections(folder / "detections.json", detections, self.classes)
        write_text(folder / "metrics.json", json.dumps({"epoch": self.epoch, **metrics}, indent=1) + "\n")
        tqdm.write(f"epoch {self.epoch}: {format_summary(metrics)}")
        return metrics

    def _free_buffers(self) -> None:
        """Give back what the network keeps for steps or tests: MXNet would hold the one's buffers through the other."""
        self._ranked = ()
        self.network.hybridize(static_alloc=True)

    def _evaluate_and_log(self, checkpoint: Checkpoint, interrupt: GracefulInterrupt) -> dict[str, Any]:
        """Evaluate after an epoch whose `checkpoint` is saved already; keep it if it is the best so far."""
        with self.workers.alone():
            metrics = self.evaluate(interrupt.check)
        precisions = {name: metrics[name] or 0.0 for name in ("AP", "AP50", "AP75")}
        is_best = precisions["AP"] >= self.best.get("AP", -1.0)
        if is_best:
            self.best = {"epoch": self.epoch, **precisions}
        fitted = metrics["calibration"]
        seconds, self.seconds = self.seconds, time.monotonic() - self._start
        checkpoint = replace(
            checkpoint,
            seconds=self.seconds,
            best=self.best,
            best_f1_score=metrics["best_F1_score"],
            calibration=None if fitted["slope"] is None else (fitted["slope"], fitted["offset"]),
        )
        if is_best:
            checkpoint.save(self.options.best)
        checkpoint.save(self.options.last)
        self.log.write({"epoch": self.epoch, "step": self.step, "seconds": round(seconds, 1), **metrics})
        return metrics

    def train_one_epoch(self, bar: Any, interrupt: GracefulInterrupt) -> None:
        """Make an epoch's steps; write a row of metrics every `log_interval` of them."""
        self.sampler.epoch = self.epoch
        mx.random.seed(self.recipe.seed + self.epoch)
        whole, recent = Losses(self.recipe.batch_size), Losses(self.recipe.batch_size)
        for batch in self.loader:
            rate = learning_rate(self.recipe, self.step, len(self.sampler))
            losses = self.update(batch, rate)
            whole.add(losses)
            recent.add(losses)
            self.step += 1
            bar.update()
            interrupt.check()
            if self.step % self.options.log_interval == 0:
                self._log_step(rate, time.monotonic() - self._start, recent.metrics(), bar)
                recent = Losses(self.recipe.batch_size)
        if self.workers.leads:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in whole.metrics().items())
            tqdm.write(f"epoch {self.epoch + 1}/{self.recipe.epochs}: {shown}")

    def update(self, batch: Sequence[mx.nd.NDArray], rate: float) -> np.ndarray:
        """Make one optimizer step on a batch and return its class and box loss, averaged over all devices.

        Raises
        ------
        TrainingError
            If a loss is not finite; weights and optimizer are left as they were, while the
            statistics of live BatchNorm layers have seen the batch.
        """
        losses = self._backward(batch)
        mean = self.workers.mean(losses.mean(axis=0))
        if not np.isfinite(mean).all():
            raise TrainingError(
                f"the loss is not finite at step {self.step} (class loss, box loss by device: {losses.tolist()}); "
                f"{self._advice()}"
            )
        if mean.any():
            self.trainer.set_learning_rate(rate)
            # Each device's loss is normalised on its own, and the kvstore sums: the mean is over devices, not images.
            self.trainer.step(self.all_devices)
        return mean

    def _backward(self, batch: Sequence[mx.nd.NDArray]) -> np.ndarray:
        """Leave the gradients of a batch with the parameters; return class and box loss of each device (devices, 2)."""
        images, class_targets, box_targets = (split_and_load(array, self.options.devices) for array in batch)
        with autograd.record():
            logits, deltas = zip(*(self.network(part) for part in images))
            box_losses = [self.box_loss(*part) for part in zip(deltas, box_targets, class_targets)]
            if not self.sync_method:
                class_losses = [self.class_loss(*part) for part in zip(logits, class_targets)]
                totals = [one + other for one, other in zip(class_losses, box_losses)]
        self._ranked = logits[0], class_targets[0]
        if self.sync_method:
            return backward_together(self.sync_method, logits, class_targets, box_losses)
        autograd.backward(totals)
        return np.array([[loss.asscalar() for loss in pair] for pair in zip(class_losses, box_losses)])

    def _log_step(self, rate: float, seconds: float, metrics: dict[str, float], bar: Any) -> None:
        if self.workers.leads:
            metrics = {**metrics, **self._ranking_of_step()}
        bar.set_postfix_str("class {cls_loss:.3f} box {box_loss:.3f} {images_per_second:.1f} img/s".format(**metrics))
        row = {"epoch": self.epoch + 1, "step": self.step, "seconds": round(seconds, 1), "lr": rate, **metrics}
        self.log.write(row)

    def _ranking_of_step(self) -> dict[str, float]:
        """The same measures whatever the loss, of the last step's images on the first device."""
        logits, class_targets = self._ranked
        scores = logits.asnumpy()
        if self.recipe.background:
            scores = drop_background(scores)
            logits = mx.nd.array(scores, logits.context)
        return {
            "ap_loss": round(float(self.measure(logits, class_targets).asscalar()), 6),
            "score_spread": round(score_spread(scores, class_targets.asnumpy()), 4),
        }

    def _evaluates_after(self, epoch: int) -> bool:
        if epoch == 0 or not self.workers.leads:
            return False
        interval = self.recipe.val_interval
        return epoch == self.recipe.epochs or (interval > 0 and epoch % interval == 0)

    def _checkpoint_now(self) -> Checkpoint:
        self.seconds = time.monotonic() - self._start
        checkpoint = Checkpoint(
            recipe=self.recipe,
            classes=self.classes,
            epoch=self.epoch,
            step=self.step,
            updates=self.trainer._optimizer.num_update,
            seconds=self.seconds,
            best=self.best,
            pretrained=self.pretrained,
            parameters=parameters_of(self.network),
            optimizer=optimizer_states(self.trainer, self.network),
            omp_num_threads=omp_num_threads(),
            images_together=self.recipe.images_together(self.all_devices),
        )
        # MXNet's ReLU turns NaN into 0 on the CPU: weights can be spoilt behind a loss that is finite.
        spoilt = checkpoint.not_finite()
        if spoilt:
            raise TrainingError(f"{spoilt[0]} is not finite after step {self.step}; {self._advice()}")
        return checkpoint

    def _advice(self) -> str:
        last = self.options.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "there was no checkpoint yet"
        return f"lower --lr or lengthen --warmup-steps; {kept}"


class Losses:
    """Means of steps' class and box losses, and their pace, from here on."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.begin = time.monotonic()
        self.steps: list[np.ndarray] = []

    def add(self, losses: np.ndarray) -> None:
        """Take the losses of one more step."""
        self.steps.append(losses)

    def metrics(self) -> dict[str, float]:
        """Return what the metrics log holds of them."""
        class_loss, box_loss = (round(float(value), 6) for value in np.mean(self.steps, axis=0))
        images = len(self.steps) * self.batch_size
        return {
            "loss": round(class_loss + box_loss, 6),
            "cls_loss": class_loss,
            "box_loss": box_loss,
            "images_per_second": round(images / (time.monotonic() - self.begin), 2),
        }
