"""Save and load checkpoints: one file, whole or not there, that a run resumes and a detector is loaded from."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Sequence

import mxnet as mx
import numpy as np

import aploss_mx
from aploss_mx.archive import ArchiveError, read_npz, write_npz
from aploss_mx.checkpoint_fields import FieldError, check_arrays, parse_about, sorted_arrays
from aploss_mx.config import ConfigError, Recipe
from aploss_mx.model_zoo import model_names, model_path
from symbols.retinanet import RetinaNet

FORMAT = 1
FLOAT16_MAX = np.finfo(np.float16).max


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A training run between two epochs.

    All randomness of a run derives from the recipe's seed, the epoch and an image's position in it, so that these
    are its random state.

    Attributes
    ----------
    recipe : Recipe
    classes : tuple of str
    epoch, step : int
        Epochs and steps done.
    updates : int
        Steps that the optimizer counted: one without any loss is none.
    seconds : float
        Wall time of training and evaluations before this checkpoint.
    best : dict
        Figures of the best evaluation so far; empty before the first.
    pretrained : tuple of str
        The backbone's parameters that came pretrained, which decides what is frozen.
    parameters : dict of str to ndarray
        By structural name, ``backbone.layer1.0.conv1.weight``.
    optimizer : dict of str to list of ndarray
        State arrays by parameter name.
    best_f1_score : float or None
        Score from which on detections are worth showing, as its evaluation found; None before one.
    omp_num_threads : str or None
        The environment's OMP_NUM_THREADS, on which the last bits depend; None where it was not noted.
    images_together : int or None
        Of a step, as `Recipe.images_together`; None where it was not noted.
    calibration : tuple of float, or None
        Slope and offset of `evaluation.calibration.Calibration`, as its evaluation found them; None before one, and
        where it had too little to go by.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    epoch: int
    step: int
    updates: int
    seconds: float
    best: dict[str, float]
    pretrained: tuple[str, ...]
    parameters: dict[str, np.ndarray] = field(repr=False)
    optimizer: dict[str, list[np.ndarray]] = field(repr=False)
    best_f1_score: float | None = None
    omp_num_threads: str | None = None
    images_together: int | None = None
    calibration: tuple[float, float] | None = None

    def save(self, path: Path) -> None:
        """Write the checkpoint, replacing an older one only when it is complete."""
        arrays = {f"parameter/{name}": array for name, array in self.parameters.items()}
        for name, states in self.optimizer.items():
            arrays.update({f"optimizer/{number}/{name}": state for number, state in enumerate(states)})
        about = {
            "format": FORMAT,
            "aploss_mx": aploss_mx.__version__,
            "recipe": self.recipe.to_dict(),
            "classes": self.classes,
            "epoch": self.epoch,
            "step": self.step,
            "updates": self.updates,
            "seconds": self.seconds,
            "best": self.best,
            "pretrained": self.pretrained,
            "best_f1_score": self.best_f1_score,
            "omp_num_threads": self.omp_num_threads,
            "images_together": self.images_together,
            "calibration": self.calibration,
            "arrays": list(arrays),  # no checksum covers an archive's list of contents
        }
        write_npz(path, {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays})

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint, given by its file or by the name of a detector that comes with the package.

        Raises
        ------
        CheckpointError
            If the file is missing, cut off, no checkpoint, from another format, or a field of it cannot be one's.
        """
        path = model_path(path)
        try:
            arrays = read_npz(path)
        except FileNotFoundError:
            raise CheckpointError(f"no checkpoint {path}; by name: {', '.join(model_names())}") from None
        except (OSError, ArchiveError) as error:
            raise CheckpointError(f"{path} is damaged or no checkpoint ({error}); use an older one") from error
        try:
            about = parse_about(arrays.pop("about", None), FORMAT)
            if set(arrays) != set(about["arrays"]):
                raise FieldError("it is damaged, arrays are missing")
            recipe = Recipe.from_dict(about["recipe"], "recipe")
            parameters, optimizer = sorted_arrays(arrays)
            check_arrays(parameters, optimizer, recipe)
        except (FieldError, ConfigError) as error:
            raise CheckpointError(f"{path}: {error}; use another checkpoint") from error
        plain = ("epoch", "step", "updates", "seconds", "best", "best_f1_score", "omp_num_threads", "images_together")
        return cls(
            recipe=recipe,
            classes=tuple(about["classes"]),
            pretrained=tuple(about["pretrained"]),
            parameters=parameters,
            optimizer=optimizer,
            calibration=about["calibration"] and tuple(map(float, about["calibration"])),
            **{name: about[name] for name in plain},
        )

    def compact(self) -> Checkpoint:
        """Return the detector alone, at half the size: convolutions in float16, and no optimizer to train on with.

        All else stays float32: a pretrained BatchNorm's running variance may be beyond float16. Of the pretrained
        weights' path, the file's name is left.
        """
        parameters = {
            name: array.astype(np.float16) if array.ndim == 4 and np.abs(array).max() <= FLOAT16_MAX else array
            for name, array in self.parameters.items()
        }
        recipe = self.recipe.override(pretrained=Path(self.recipe.pretrained).name)
        return replace(self, recipe=recipe, parameters=parameters, optimizer={})

    @property
    def is_compact(self) -> bool:
        """Whether `compact` made it."""
        return any(array.dtype == np.float16 for array in self.parameters.values())

    def not_finite(self) -> list[str]:
        """Return the names of the parameters that, or whose optimizer state, hold numbers that are not finite."""
        return [
            name
            for name, array in self.parameters.items()
            if not all(np.isfinite(values).all() for values in (array, *self.optimizer.get(name, ())))
        ]

    def restore(self, network: RetinaNet) -> None:
        """Fill an initialised network and freeze what was frozen.

        Raises
        ------
        CheckpointError
            If names or shapes differ.
        """
        self._check_fits(network)
        for name, param in network._collect_params_with_prefix().items():
            param.set_data(mx.nd.array(self.parameters[name]))
        network.backbone.freeze(set(self.pretrained))

    def _check_fits(self, network: RetinaNet) -> None:
        params = network._collect_params_with_prefix()
        if set(params) != set(self.parameters):
            odd = sorted(set(params) ^ set(self.parameters))
            raise CheckpointError(f"the checkpoint is of another network: {len(odd)} names differ, such as {odd[0]}")
        for name, param in params.items():
            if param.shape != self.parameters[name].shape:
                raise CheckpointError(
                    f"the checkpoint is of another network: {name} is {self.parameters[name].shape}, not {param.shape}"
                )
        strangers = {name for name in self.pretrained if f"backbone.{name}" not in params}
        if strangers:
            raise CheckpointError(f"the checkpoint is of another network: pretrained {min(strangers)} is not in it")

    def fine_tune(self, network: RetinaNet, classes: Sequence[str]) -> tuple[list[str], list[str]]:
        """Fill an initialised network of any classes as far as it fits, and freeze what was frozen.

        The class head's output layer fits the same classes alone.

        Returns
        -------
        pretrained, at_random : list of str
            The backbone's parameters that were pretrained and still are, as `Checkpoint.pretrained` names them; and the
            network's parameters that the checkpoint has no values for, which stay as they are.

        Raises
        ------
        CheckpointError
            If no parameter of the backbone fits.
        """
        params = network._collect_params_with_prefix()
        last = f"class_head.{len(network.class_head) - 1}."
        fitting = {
            name
            for name, array in self.parameters.items()
            if name in params
            and params[name].shape == array.shape
            and (self.classes == tuple(classes) or not name.startswith(last))
        }
        if not any(name.startswith("backbone.") for name in fitting):
            raise CheckpointError(f"the checkpoint is of another backbone, {self.recipe.network}")
        for name in fitting:
            params[name].set_data(mx.nd.array(self.parameters[name]))
        pretrained = [name for name in self.pretrained if f"backbone.{name}" in fitting]
        network.backbone.freeze(set(pretrained))
        return pretrained, sorted(set(params) - fitting)

    def network(self, ctx: mx.Context | list[mx.Context]) -> RetinaNet:
        """Return the network of this checkpoint on the given devices."""
        network = RetinaNet(
            self.recipe.network,
            len(self.classes),
            self.recipe.channels,
            self.recipe.anchors.per_cell,
            self.recipe.background,
        )
        self._check_fits(network)  # before it takes memory: the recipe may be anybody's
        network.initialize(ctx=ctx)
        self.restore(network)
        return network


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a file, or a detector's name, leads to an ``.npz`` archive that calls itself a checkpoint.

    Never raises.
    """
    try:
        with zipfile.ZipFile(model_path(path)) as archive:
            return "about.npy" in archive.namelist()
    except Exception:  # whatever zipfile raises on files of others
        return False


def parameters_of(network: RetinaNet) -> dict[str, np.ndarray]:
    """Return copies of all parameters by structural name."""
    return {name: param.data(param.list_ctx()[0]).asnumpy() for name, param in named_parameters(network)}


def named_parameters(network: RetinaNet) -> list[tuple[str, mx.gluon.Parameter]]:
    """Return structural names and parameters, in the order of the names."""
    return sorted(network._collect_params_with_prefix().items())
