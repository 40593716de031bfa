"""Set up a run: check it against devices and data, and build what it trains with, new or from a checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Sequence

import mxnet as mx
import numpy as np
import yaml

from aploss_mx.atomic import free_path, remove_unfinished, write_text
from aploss_mx.checkpoint import Checkpoint, CheckpointError
from aploss_mx.config import RANKING_LOSSES, ConfigError, Recipe
from aploss_mx.data.loader import EpochSampler, EvaluationSet, TrainingSet, evaluation_loader, training_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.detection.detector import views_of
from aploss_mx.training.checksums import checksum, checksums
from aploss_mx.training.distributed import Workers, count_workers
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.metrics_log import MetricsLog
from aploss_mx.training.optimizer import make_trainer, restore_optimizer
from aploss_mx.training.options import Options
from aploss_mx.training.pretrained import check_source
from aploss_mx.training.resume import MEASURED_WITH, differences, load_checkpoint, new_network


def set_up(
    recipe: Recipe,
    classes: Sequence[str],
    train_samples: Sequence[Sample],
    val_samples: Sequence[Sample],
    options: Options,
) -> TrainingRun:
    """Return a run at its first step, or where its checkpoint left it; its folder is there and its log is open.

    Raises
    ------
    ConfigError
        If the recipe does not fit the devices, the data or the run to resume.
    WorkersError
        If the environment lacks what a distributed run wants, or another worker has other settings, data or weights.
    CheckpointError
        If the checkpoint to resume from cannot be read or used.
    WeightsError
        If the pretrained weights cannot be used.
    OSError
        If the folder cannot be written to.
    """
    check_run(recipe, options)
    options.check_writable()
    processes = LoaderProcesses(options.num_workers)  # before the network, which takes time and memory
    workers = Workers(options.kv_store, options.timeouts)
    with ExitStack() as held:
        if workers.leads:
            held.enter_context(options.lock())
        run = _prepare(recipe, classes, train_samples, val_samples, options, workers, processes)
        if workers.leads:
            _open_log(run)
        run.held = held.pop_all()
    return run


def _prepare(
    recipe: Recipe,
    classes: Sequence[str],
    train_samples: Sequence[Sample],
    val_samples: Sequence[Sample],
    options: Options,
    workers: Workers,
    processes: LoaderProcesses,
) -> TrainingRun:
    """Make or read all that a step takes; the folder is this run's alone."""
    if workers.count > 1:
        workers.check_alike(checksums(recipe, classes, train_samples))
    path = options.checkpoint()
    devices = workers.count * len(options.devices)
    checkpoint = load_checkpoint(path, recipe, classes, devices) if path else None
    size = (recipe.data_shape, recipe.data_shape)
    transform = TrainTransform(size, recipe.augmentation, recipe.pixels)
    dataset = TrainingSet(train_samples, transform, recipe.seed, recipe.anchors)
    if not len(dataset):
        raise ConfigError("no image has an object to train on")
    sampler = EpochSampler(len(dataset), recipe.batch_size, recipe.seed)
    sampler.part, sampler.parts = workers.rank, workers.count
    loader = training_loader(dataset, sampler, processes)
    val_loader = evaluation_loader(EvaluationSet(val_samples, views_of(recipe)), processes)
    if checkpoint and checkpoint.step != checkpoint.epoch * len(sampler):
        raise CheckpointError(
            f"the checkpoint made {checkpoint.step} steps in {checkpoint.epoch} epochs, but the data now make "
            f"{len(sampler)} steps an epoch: they have changed"
        )

    mx.random.seed(recipe.seed)
    with workers.alone():  # the weights may have to be downloaded
        if checkpoint:
            network, pretrained = checkpoint.network(options.devices), checkpoint.pretrained
        else:
            if options.resume:
                print(f"nothing to resume in {options.save_prefix}: a new run")
            network, pretrained = new_network(recipe, classes, options.devices)
    if workers.count > 1:  # who freezes other layers waits for gradients that nobody sends
        workers.check_alike({"pretrained weights": checksum(sorted(pretrained))})
    network.hybridize(static_alloc=True)
    trainer = make_trainer(network, recipe, workers.kv_store)
    workers.share_parameters(trainer)
    run = TrainingRun(
        recipe, tuple(classes), options, workers, sampler, loader, val_samples, val_loader, network, pretrained, trainer
    )
    if checkpoint:
        _resume(run, checkpoint)
    if workers.mean(np.array([run.step, 0.0]))[0] != run.step:
        raise CheckpointError(f"another worker resumes from another step than {run.step}: share the run's folder")
    return run


def check_run(recipe: Recipe, options: Options) -> None:
    """Raise what `set_up` raises where the devices, the run's folder or a file to start from will not do."""
    path = options.checkpoint()
    if path and not path.exists():
        raise CheckpointError(f"no checkpoint {path}")
    if not path:
        check_source(recipe.pretrained)
    devices = count_workers(options.kv_store) * len(options.devices)
    share = recipe.batch_size // devices
    if recipe.batch_size % devices:
        raise ConfigError(f"batch_size {recipe.batch_size} cannot be split evenly over {devices} devices")
    if recipe.sync_ranking and devices > len(options.devices):
        raise ConfigError("sync_ranking ranks what the devices of one machine have, not those of several workers")
    if recipe.ranking_batch and share % recipe.ranking_batch:
        raise ConfigError(f"ranking_batch {recipe.ranking_batch} does not divide the {share} images of a device")


def _resume(run: TrainingRun, checkpoint: Checkpoint) -> None:
    restore_optimizer(run.trainer, run.network, checkpoint.optimizer, checkpoint.updates)
    run.epoch, run.step, run.seconds = checkpoint.epoch, checkpoint.step, checkpoint.seconds
    run.remeasure = bool(differences(checkpoint.recipe, run.recipe, MEASURED_WITH))
    if run.options.best.exists() and not run.remeasure:
        run.best = checkpoint.best


def _keep(best: Path) -> None:
    """Give a checkpoint that another test chose a name that is free."""
    try:
        name = f"best_epoch{Checkpoint.load(best).epoch}"
    except CheckpointError:
        name = "best_of_before"
    kept = best.rename(free_path(best.with_name(f"{name}.npz")))
    print(f"{best.name} was chosen by another test and is kept as {kept.name}")


def _open_log(run: TrainingRun) -> None:
    recipe, folder = run.recipe, run.options.save_prefix
    remove_unfinished(folder, "*.npz")
    if run.remeasure and run.options.best.exists():
        _keep(run.options.best)
    run.log = MetricsLog(folder, run.step, run.remeasure)
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    group = recipe.images_together(run.all_devices)
    ranked = f", ranked in groups of {group}" if recipe.loss in RANKING_LOSSES else ""
    print(f"{run.all_devices} device(s) of {recipe.batch_size // run.all_devices} images a step{ranked}")
