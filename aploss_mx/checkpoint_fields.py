"""Check the fields of a checkpoint's file, which may be anybody's, before anything is made of them."""

from __future__ import annotations

import json
import math
from typing import Any, Callable

import numpy as np

from aploss_mx.config import Recipe

LARGEST_COUNT = 2**53
STATES = {"sgd": 1, "adam": 2}  # arrays a parameter that an optimizer keeps; SGD without momentum keeps none
SHOWN = 40  # characters of a value in a message


class FieldError(ValueError):
    """A field that is missing or cannot be a checkpoint's; the message says which and why."""


def parse_about(array: np.ndarray | None, version: int) -> dict[str, Any]:
    """Return what `Checkpoint.save` wrote as JSON text in an array of bytes, in its fields' types and sizes.

    Raises
    ------
    FieldError
        If it is of another format than `version`, or a field is missing or cannot be a checkpoint's.
    """
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise FieldError("it is no checkpoint of aploss_mx")
    try:
        about = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise FieldError(f"it is no checkpoint of aploss_mx, or damaged: {str(error)[:SHOWN]}") from error
    if not isinstance(about, dict) or "format" not in about:
        raise FieldError("it is no checkpoint of aploss_mx")
    if about["format"] != version:
        raise FieldError(f"it has format {str(about['format'])[:SHOWN]}, this version reads {version}")
    about = {**LATER, **about}
    for name, (wanted, fits) in FIELDS.items():
        if name not in about:
            raise FieldError(f"it lacks {name}")
        if not fits(about[name]):
            raise FieldError(f"{name} is {repr(about[name])[:SHOWN]}, not {wanted}")
    if about["updates"] > about["step"] or about["epoch"] > about["step"]:
        raise FieldError(f"{about['epoch']} epochs and {about['updates']} updates do not fit {about['step']} steps")
    return about


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def is_number(value: Any) -> bool:
    """Return whether a value read from JSON is a number, finite and of a size to compute with."""
    return type(value) in (int, float) and abs(value) <= LARGEST_COUNT and math.isfinite(value)


def _are_names(value: Any) -> bool:
    fine = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
    return fine and len(set(value)) == len(value)


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) < SHOWN and value.isprintable()


def _is_best(value: Any) -> bool:
    figures = isinstance(value, dict) and all(is_number(number) for number in value.values())
    return figures and (not value or {"epoch", "AP"} <= set(value))


def is_calibration(value: Any) -> bool:
    """Return whether a value read from JSON is a slope above 0 and an offset, or None."""
    pair = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
    return value is None or (pair and value[0] > 0)


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "recipe": ("settings by name", lambda value: isinstance(value, dict)),
    "classes": ("a list of different names", lambda value: _are_names(value) and len(value) > 0),
    "epoch": ("a count", _is_count),
    "step": ("a count", _is_count),
    "updates": ("a count", _is_count),
    "seconds": ("a time", lambda value: is_number(value) and value >= 0),
    "best": ("figures by name", _is_best),
    "pretrained": ("a list of different names", _are_names),
    "best_f1_score": ("a number, or null", lambda value: value is None or is_number(value)),
    "omp_num_threads": ("a short text, or null", lambda value: value is None or _is_short(value)),
    "images_together": ("a count, or null", lambda value: value is None or _is_count(value)),
    "calibration": ("a slope above 0 and an offset, or null", is_calibration),
    "arrays": ("a list of different names", _are_names),
}
LATER = {"omp_num_threads": None, "images_together": None, "calibration": None}  # which the first checkpoints lack


def sorted_arrays(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """Return parameters by name, and the optimizer's states by the parameter's name, in the order of their numbers.

    They are named ``parameter/NAME`` and ``optimizer/NUMBER/NAME``; raises FieldError for other names.
    """
    parameters: dict[str, np.ndarray] = {}
    optimizer: dict[str, list[np.ndarray]] = {}
    for key in sorted(arrays):
        kind, _, name = key.partition("/")
        if kind == "parameter":
            parameters[name] = arrays[key]
            continue
        number, _, name = name.partition("/")
        states = optimizer.setdefault(name, [])
        if kind != "optimizer" or number != str(len(states)):
            raise FieldError(f"the array {key[:SHOWN]!r} has no place in a checkpoint")
        states.append(arrays[key])
    return parameters, optimizer


def check_arrays(parameters: dict[str, np.ndarray], optimizer: dict[str, list[np.ndarray]], recipe: Recipe) -> None:
    """Raise FieldError unless types, numbers and the optimizer's shapes are those of a network that a recipe trains."""
    if not parameters:
        raise FieldError("it has no parameters")
    for name, array in parameters.items():
        if array.dtype not in (np.float32, np.float16):
            raise FieldError(f"{name} is of type {array.dtype}, not float32 or float16")
        _check_numbers(name, array, least=0 if name.endswith("running_var") else -math.inf)
    wanted = 0 if recipe.optimizer == "sgd" and not recipe.momentum else STATES[recipe.optimizer]
    for name, states in optimizer.items():
        if name not in parameters:
            raise FieldError(f"the optimizer has states of {name[:SHOWN]}, which is no parameter")
        if len(states) != wanted:
            raise FieldError(f"the optimizer has {len(states)} states of {name}, and {recipe.optimizer} {wanted}")
        for number, state in enumerate(states):
            if state.dtype != np.float32 or state.shape != parameters[name].shape:
                expected = f"float32 {parameters[name].shape}"
                raise FieldError(f"the optimizer's state of {name} is {state.dtype} {state.shape}, not {expected}")
            _check_numbers(name, state, least=0 if number == 1 else -math.inf)  # Adam's second moment is of squares


def _check_numbers(name: str, array: np.ndarray, least: float) -> None:
    if not np.isfinite(array).all():
        raise FieldError(f"{name} holds numbers that are not finite")
    if array.size and array.min() < least:
        raise FieldError(f"{name} holds numbers below {least:g}")
