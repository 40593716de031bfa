"""Read what a training left in its folder, and note there what a page wants to know besides."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import pandas as pd

import aploss_mx
from aploss_mx.atomic import write_text
from aploss_mx.checkpoint_fields import is_calibration, is_number
from aploss_mx.config import Recipe, load_recipe
from aploss_mx.data.sample import Sample
from aploss_mx.evaluation.coco import METRICS
from aploss_mx.evaluation.detections import read_json
from aploss_mx.training.metrics_log import COLUMNS, read_metrics

NOTE = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """A run, as its folder tells it.

    Attributes
    ----------
    path : Path
    recipe : Recipe
    log : DataFrame
        The metrics log, a column for each of `metrics_log.COLUMNS`, of floats; NaN where nothing was measured.
    metrics : mapping
        Of the last evaluation, with its ``epoch``.
    note : mapping
        What `write_note` left; empty where an earlier version trained.
    """

    path: Path
    recipe: Recipe
    log: pd.DataFrame = field(repr=False)
    metrics: Mapping[str, Any] = field(repr=False)
    note: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def command(self) -> str:
        """What trains it again; '' where that is not known."""
        return shlex.join(self.note["command"]) if "command" in self.note else ""


def read_run(path: Path) -> RunFolder:
    """Read a run's folder.

    Raises
    ------
    ValueError
        If it is none, or what it holds cannot be read.
    OSError
        Of the system.
    """
    missing = [name for name in ("recipe.yaml", "metrics.json", "detections.json") if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: give the folder of a training that was evaluated")
    note = read_json(path / NOTE, dict, "an object") if (path / NOTE).is_file() else {}
    if not _is_note(note):
        raise ValueError(f"{path / NOTE} is not what a training notes: restore it, or remove it")
    recipe, log = load_recipe(str(path / "recipe.yaml")), read_log(path / "metrics.csv")
    metrics = read_json(path / "metrics.json", dict, "an object")
    if not _are_metrics(metrics):
        raise ValueError(
            f"{path / 'metrics.json'} is not what an evaluation writes: evaluate the run again with --eval-only"
        )
    return RunFolder(path, recipe, log, metrics, note)


def _is_note(note: Mapping[str, Any]) -> bool:
    command, objects = note.get("command", []), note.get("train_objects", {})
    return (
        isinstance(command, list)
        and all(isinstance(word, str) for word in command)
        and isinstance(note.get("dataset_root", ""), str)
        and isinstance(objects, dict)
        and all(type(count) is int for count in (note.get("train_images", 0), *objects.values()))
    )


def _are_metrics(metrics: Mapping[str, Any]) -> bool:
    """Return whether they are of the types that `evaluation.evaluate` returns."""
    per_class, fitted = metrics.get("per_class"), metrics.get("calibration") or {}
    if not isinstance(per_class, dict) or not all(isinstance(one, dict) for one in (fitted, *per_class.values())):
        return False
    pair = [fitted.get("slope"), fitted.get("offset")]
    figures = [of.get(name, "") for of in per_class.values() for name in ("AP", "AP50", "VOC07_AP50")]
    figures += [metrics.get(name, "") for name in (*METRICS, "VOC07_AP50", "VOC10_AP50")]
    return (
        all(figure is None or is_number(figure) for figure in (*figures, metrics.get("best_F1_score")))
        and all(type(of.get("objects")) is int for of in per_class.values())
        and is_number(metrics.get("epoch", 0))
        and (pair == [None, None] or is_calibration(pair))
    )


def read_log(path: Path) -> pd.DataFrame:
    """Return a metrics log as `RunFolder` has it."""
    return pd.DataFrame(read_metrics(path), columns=COLUMNS).apply(pd.to_numeric, errors="coerce")


def write_note(
    folder: Path, command: Sequence[str], layout: str, root: Path, samples: Sequence[Sample], names: Sequence[str]
) -> None:
    """Note a run's command, its data's layout and place, and how many images, and objects by class, it learns from."""
    labels = np.concatenate([np.zeros(0, np.int64), *(sample.labels[sample.trained] for sample in samples)])
    note = {
        "aploss_mx": aploss_mx.__version__,
        "python": sys.version.split()[0],
        "command": list(command),
        "layout": layout,
        "dataset_root": str(Path(os.path.expanduser(root)).absolute()),
        "train_images": sum(bool(sample.trained.any()) for sample in samples),
        "train_objects": dict(zip(names, np.bincount(labels, minlength=len(names)).tolist())),
    }
    write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")
