"""The training loop: data-parallel, logged, evaluated, and resumable after each epoch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np
import yaml
from mxnet import autograd
from mxnet.gluon.utils import split_and_load
from tqdm import tqdm

from aploss_mx.atomic import remove_unfinished, write_text
from aploss_mx.checkpoint import Checkpoint, CheckpointError, parameters_of
from aploss_mx.config import RANKING_LOSSES, ConfigError, Recipe
from aploss_mx.data.loader import EpochSampler, EvaluationSet, TrainingSet, evaluation_loader, training_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.detection.detector import Detector, views_of
from aploss_mx.detection.postprocess import drop_background
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.evaluation.evaluate import evaluate, format_summary
from aploss_mx.losses import BoxLoss
from aploss_mx.losses.from_recipe import make_class_loss, make_sync_method
from aploss_mx.ranking.measure import measure_ap_loss, score_spread
from aploss_mx.training.distributed import Workers, count_workers
from aploss_mx.training.interrupt import GracefulInterrupt
from aploss_mx.training.metrics_log import MetricsLog, NoLog
from aploss_mx.training.optimizer import make_trainer, optimizer_states, restore_optimizer, updates_of
from aploss_mx.training.options import Options
from aploss_mx.training.resume import MEASURED_WITH, differences, load_checkpoint, new_network
from aploss_mx.training.schedule import learning_rate
from aploss_mx.training.sync_ranking import backward_together


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and which checkpoint is good."""


class TrainingRun:
    """One run of a recipe, from its first step or from a checkpoint.

    Parameters
    ----------
    recipe : Recipe
    classes : sequence of str
    train_samples, val_samples : sequence of Sample
    options : Options

    Raises
    ------
    ConfigError
        If the recipe does not fit the devices, the data or the run to go on with.
    WorkersError
        If the other workers of a distributed run cannot be found.
    CheckpointError
        If the checkpoint to go on from cannot be read or used.
    WeightsError
        If the pretrained weights cannot be used.
    OSError
        If the folder cannot be written to.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: Sequence[str],
        train_samples: Sequence[Sample],
        val_samples: Sequence[Sample],
        options: Options,
    ):
        self.recipe = recipe
        self.classes = tuple(classes)
        self.options = options
        self.val_samples = val_samples
        devices = count_workers(options.kv_store) * len(options.devices)
        if recipe.batch_size % devices:
            raise ConfigError(f"batch_size {recipe.batch_size} cannot be split evenly over {devices} devices")
        share = recipe.batch_size // devices
        if recipe.sync_ranking and devices > len(options.devices):
            raise ConfigError("sync_ranking ranks what the devices of one machine have, not those of several workers")
        if recipe.ranking_batch and share % recipe.ranking_batch:
            raise ConfigError(f"ranking_batch {recipe.ranking_batch} does not divide the {share} images of a device")
        options.checkpoint()
        options.check_writable()
        processes = LoaderProcesses(options.num_workers)
        self.workers = Workers(options.kv_store, options.timeouts)
        self.lock = options.lock() if self.workers.leads else None
        try:
            self._prepare(train_samples, processes, share)
        except BaseException:
            self._unlock()
            raise

    def _prepare(self, train_samples: Sequence[Sample], processes: LoaderProcesses, share: int) -> None:
        """Make or read all that a step takes; the folder is this run's alone."""
        recipe, classes, options = self.recipe, self.classes, self.options
        path = options.checkpoint()
        checkpoint = load_checkpoint(path, recipe, classes) if path else None
        size = (recipe.data_shape, recipe.data_shape)
        dataset = TrainingSet(train_samples, TrainTransform(size, recipe.augmentation, recipe.pixels), recipe.seed)
        self.sampler = EpochSampler(len(dataset), recipe.batch_size, recipe.seed)
        self.loader = training_loader(dataset, self.sampler, processes)
        val_set = EvaluationSet(self.val_samples, views_of(recipe))
        self.val_loader = evaluation_loader(val_set, processes)
        if checkpoint and checkpoint.step != checkpoint.epoch * len(self.sampler):
            raise CheckpointError(
                f"the checkpoint made {checkpoint.step} steps in {checkpoint.epoch} epochs, but the data now make "
                f"{len(self.sampler)} steps an epoch: they have changed"
            )

        self.sampler.part, self.sampler.parts = self.workers.rank, self.workers.count
        mx.random.seed(recipe.seed)
        if checkpoint:
            self.network, self.pretrained = checkpoint.network(options.devices), checkpoint.pretrained
        else:
            self.network, self.pretrained = new_network(recipe, classes, options.devices)
        self.network.hybridize(static_alloc=True)
        self.detector = Detector(self.network, classes, recipe, options.devices[0])
        self.class_loss = make_class_loss(recipe)
        self.sync_method = make_sync_method(recipe)
        self.box_loss = BoxLoss(recipe.box_loss_weight, recipe.ranking_batch)
        self.trainer = make_trainer(self.network, recipe, self.workers.kv_store)
        self.workers.share_parameters(self.trainer)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {}
        self._ranked: tuple[mx.nd.NDArray, ...] = ()
        if checkpoint:
            restore_optimizer(self.trainer, self.network, checkpoint.optimizer, checkpoint.updates)
            self.epoch, self.step, self.seconds = checkpoint.epoch, checkpoint.step, checkpoint.seconds
            if not differences(checkpoint.recipe, recipe, MEASURED_WITH):
                self.best = checkpoint.best

        if self.workers.mean(np.array([self.step, 0.0]))[0] != self.step:
            raise CheckpointError(f"another worker goes on from another step than {self.step}: share the run's folder")
        self.log: MetricsLog | NoLog = NoLog()
        if self.workers.leads:
            remove_unfinished(options.save_prefix, "*.npz")
            self.log = MetricsLog(options.save_prefix, self.step)
            write_text(options.save_prefix / "recipe.yaml", yaml.safe_dump(recipe.to_dict(), sort_keys=False))
            group = recipe.ranking_batch or (recipe.batch_size if recipe.sync_ranking else share)
            ranked = f", ranked in groups of {group}" if recipe.loss in RANKING_LOSSES else ""
            print(f"{recipe.batch_size // share} device(s) of {share} images a step{ranked}")

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
            self._unlock()

    def _unlock(self) -> None:
        if self.lock:
            self.lock.close()

    def _run(self) -> dict[str, Any]:
        start = time.monotonic() - self.seconds
        metrics: dict[str, Any] = {}
        hidden = None if self.workers.leads else True
        bar = tqdm(total=self.recipe.epochs * len(self.sampler), initial=self.step, unit="step", disable=hidden)
        with bar, GracefulInterrupt() as interrupt:
            if self._evaluates_after(self.epoch) and self.step not in self.log.evaluated:
                metrics = self._evaluate_and_log(self._checkpoint_now(), interrupt)
            while self.epoch < self.recipe.epochs:
                bar.set_description(f"epoch {self.epoch + 1}/{self.recipe.epochs}")
                self._train_epoch(bar, start, interrupt)
                self.epoch += 1
                self.seconds = time.monotonic() - start
                checkpoint = self._checkpoint_now()
                if self.workers.leads:
                    checkpoint.save(self.options.last)
                if self._evaluates_after(self.epoch):
                    metrics = self._evaluate_and_log(checkpoint, interrupt)
                interrupt.check()
        if metrics or not self.workers.leads:
            return metrics
        with self.workers.alone():
            return self.evaluate()

    def evaluate(self, after_batch: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Evaluate on the validation samples; writes ``detections.json`` and ``metrics.json``."""
        detections = self.detector.detect(self.val_samples, self.val_loader, after_batch)
        metrics = evaluate(self.val_samples, detections, self.classes)
        folder = self.options.save_prefix
        save_detections(folder / "detections.json", detections, self.classes)
        write_text(folder / "metrics.json", json.dumps({"epoch": self.epoch, **metrics}, indent=1) + "\n")
        tqdm.write(f"epoch {self.epoch}: {format_summary(metrics)}")
        return metrics

    def _evaluate_and_log(self, checkpoint: Checkpoint, interrupt: GracefulInterrupt) -> dict[str, Any]:
        """Evaluate after an epoch whose `checkpoint` is saved already; keep it if it is the best so far."""
        with self.workers.alone():
            metrics = self.evaluate(interrupt.check)
        figures = {name: metrics[name] or 0.0 for name in ("AP", "AP50", "AP75")}
        is_best = figures["AP"] >= self.best.get("AP", -1.0)
        if is_best:
            self.best = {"epoch": self.epoch, **figures}
        fitted = metrics["calibration"]
        checkpoint = replace(
            checkpoint,
            best=self.best,
            best_f1_score=metrics["best_F1_score"],
            calibration=None if fitted["slope"] is None else (fitted["slope"], fitted["offset"]),
        )
        if is_best:
            checkpoint.save(self.options.best)
        checkpoint.save(self.options.last)
        self.log.write({"epoch": self.epoch, "step": self.step, "seconds": round(self.seconds, 1), **metrics})
        return metrics

    def update(self, batch: Sequence[mx.nd.NDArray], rate: float) -> np.ndarray:
        """Make one optimizer step on a batch and return its class and box loss, averaged over all devices.

        Raises
        ------
        TrainingError
            If a loss is not finite; weights and optimizer are left as they were, while the
            statistics of live BatchNorm layers have seen the batch.
        """
        devices = self.options.devices
        parts = [split_and_load(array, devices) for array in batch]
        with autograd.record():
            outputs = [self.network(images) for images in parts[0]]
            logits = [output[0] for output in outputs]
            box_losses = [
                self.box_loss(deltas, box_targets, class_targets)
                for (_, deltas), class_targets, box_targets in zip(outputs, *parts[1:])
            ]
            if not self.sync_method:
                class_losses = [self.class_loss(*pair) for pair in zip(logits, parts[1])]
                totals = [one + other for one, other in zip(class_losses, box_losses)]
        if self.sync_method:
            values = backward_together(self.sync_method, logits, parts[1], box_losses)
        else:
            autograd.backward(totals)
            values = np.array([[loss.asscalar() for loss in pair] for pair in zip(class_losses, box_losses)])
        self._ranked = logits[0], parts[1][0]
        mean = self.workers.mean(values.mean(axis=0))
        if not np.isfinite(mean).all():
            raise TrainingError(
                f"the loss is not finite at step {self.step} (class loss, box loss by device: {values.tolist()}); "
                f"{self._advice()}"
            )
        if mean.any():
            self.trainer.set_learning_rate(rate)
            # Each device's loss is normalised on its own, and the kvstore sums: the mean is over devices, not images.
            self.trainer.step(len(devices) * self.workers.count)
        return mean

    def _train_epoch(self, bar: tqdm, start: float, interrupt: GracefulInterrupt) -> None:
        self.sampler.epoch = self.epoch
        mx.random.seed(self.recipe.seed + self.epoch)
        losses: list[np.ndarray] = []
        logged, since, begin = 0, time.monotonic(), time.monotonic()
        for batch in self.loader:
            rate = learning_rate(self.recipe, self.step, len(self.sampler))
            losses.append(self.update(batch, rate))
            self.step += 1
            bar.update()
            interrupt.check()
            if self.step % self.options.log_interval == 0:
                figures = self._figures(losses[logged:], time.monotonic() - since)
                if self.workers.leads:
                    figures.update(self._ranking_of_step())
                bar.set_postfix_str(
                    "class {cls_loss:.3f} box {box_loss:.3f} {images_per_second:.1f} img/s".format(**figures)
                )
                self.log.write(
                    {
                        "epoch": self.epoch + 1,
                        "step": self.step,
                        "seconds": round(time.monotonic() - start, 1),
                        "lr": rate,
                        **figures,
                    }
                )
                logged, since = len(losses), time.monotonic()
        if not self.workers.leads:
            return
        figures = self._figures(losses, time.monotonic() - begin)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        tqdm.write(f"epoch {self.epoch + 1}/{self.recipe.epochs}: {shown}")

    def _figures(self, losses: Sequence[np.ndarray], seconds: float) -> dict[str, float]:
        class_loss, box_loss = (round(float(value), 6) for value in np.mean(losses, axis=0))
        return {
            "loss": round(class_loss + box_loss, 6),
            "cls_loss": class_loss,
            "box_loss": box_loss,
            "images_per_second": round(len(losses) * self.recipe.batch_size / seconds, 2),
        }

    def _ranking_of_step(self) -> dict[str, float]:
        """The same measures whatever the loss, of the last step's images on the first device."""
        logits, class_targets = (array.asnumpy() for array in self._ranked)
        if self.recipe.background:
            logits = drop_background(logits)
        return {
            "ap_loss": round(measure_ap_loss(logits, class_targets, self.recipe.ranking_batch), 6),
            "score_spread": round(score_spread(logits, class_targets), 4),
        }

    def _evaluates_after(self, epoch: int) -> bool:
        if epoch == 0 or not self.workers.leads:
            return False
        interval = self.recipe.val_interval
        return epoch == self.recipe.epochs or (interval > 0 and epoch % interval == 0)

    def _checkpoint_now(self) -> Checkpoint:
        checkpoint = Checkpoint(
            recipe=self.recipe,
            classes=self.classes,
            epoch=self.epoch,
            step=self.step,
            updates=updates_of(self.trainer),
            seconds=self.seconds,
            best=self.best,
            pretrained=self.pretrained,
            parameters=parameters_of(self.network),
            optimizer=optimizer_states(self.trainer, self.network),
            omp_num_threads=os.environ["OMP_NUM_THREADS"],
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
