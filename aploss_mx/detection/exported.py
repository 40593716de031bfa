"""Load exported networks in place of a checkpoint's: MXNet symbols, in float32 or INT8, and ONNX models.

Each stands beside the ``model.json`` that `description.describe` wrote.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import mxnet as mx

from aploss_mx.checkpoint_fields import is_calibration, is_number
from aploss_mx.config import TEST_SETTINGS, Recipe
from aploss_mx.geometry.anchors import AnchorShapes

DESCRIPTION = "model.json"
SYMBOL, PARAMS = "-symbol.json", "-0000.params"
NETWORKS = ("model-symbol.json", "int8-symbol.json", "model.onnx", "int8.onnx")
"""What a folder may hold; where it holds several, the first is taken."""


class ExportedError(ValueError):
    """An export that cannot be used; the message says which file and why."""


class ONNXNetwork:
    """A network that onnxruntime computes, called as a Gluon block is.

    Parameters
    ----------
    path : Path
        A model of `export.export_onnx` or `onnx_int8.quantize_onnx`.

    Raises
    ------
    ExportedError
        If onnxruntime is missing or cannot read the model.
    """

    def __init__(self, path: Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportedError(f"{path} needs onnxruntime ({error}): pip install onnxruntime") from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen exceptions of its own, without a common base
            raise ExportedError(f"{path} is no ONNX model that onnxruntime can read ({error})") from error
        names = [value.name for value in self._session.get_inputs()]
        if names != ["data"]:
            raise ExportedError(f"{path} takes {', '.join(names)}: give the network alone, model.onnx or int8.onnx")

    def __call__(self, images: mx.nd.NDArray) -> list[mx.nd.NDArray]:
        return [mx.nd.array(array) for array in self._session.run(None, {"data": images.asnumpy()})]


def is_exported(path: Path) -> bool:
    """Return whether a path is an export by its name: a folder, a symbol or its parameters, or an ONNX model."""
    return path.is_dir() or path.name.endswith((SYMBOL, PARAMS, ".onnx"))


def load_exported(path: Path, device: mx.Context) -> tuple[Any, Recipe, dict[str, Any]]:
    """Return an exported network, the recipe of its test settings, and its description, whose calibration is a pair.

    Parameters
    ----------
    path : Path
        A file of NETWORKS, or the folder that holds one.
    device : Context
        Where an MXNet symbol computes; ONNX models and networks in INT8 compute on the CPU alone.

    Raises
    ------
    ExportedError
        If a file is missing or cannot be used, or not on this device.
    """
    if path.is_dir():
        found = [path / name for name in NETWORKS if (path / name).is_file()]
        if not found:
            hint = f"; {path / 'last.npz'} is a checkpoint" if (path / "last.npz").is_file() else ""
            raise ExportedError(f"{path} holds no exported network: none of {', '.join(NETWORKS)}{hint}")
        path = found[0]
    if path.name.endswith(PARAMS):
        path = path.with_name(path.name[: -len(PARAMS)] + SYMBOL)
    if not path.is_file():
        raise ExportedError(f"no exported network {path}")
    if device.device_type == "gpu" and (path.suffix == ".onnx" or b'"_sg_mkldnn_conv"' in path.read_bytes()):
        raise ExportedError(f"{path} computes on the CPU alone: leave out --gpus, or give the checkpoint")
    description = path.with_name(DESCRIPTION)
    about = _read_description(description)
    if path.suffix == ".onnx":
        network = ONNXNetwork(path)
    else:
        params = path.with_name(path.name[: -len(SYMBOL)] + PARAMS)
        try:
            with warnings.catch_warnings():  # of the type of the input, which the parameters tell
                warnings.filterwarnings("ignore", "Cannot decide type")
                network = mx.gluon.SymbolBlock.imports(str(path), ["data"], str(params), ctx=device)
        except (mx.MXNetError, OSError, ValueError, AssertionError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ExportedError(f"{path} and {params.name} are no network of MXNet's ({reason})") from error
        # oneDNN prepares the weights of fused and INT8 convolutions for a size; without static_shape, for each call.
        network.hybridize(static_alloc=True, static_shape=True)
    settings = {name: about[name] for name in ("pixels", *TEST_SETTINGS)}
    anchors = about.get("anchors")  # without which an export of before has the paper's
    if isinstance(anchors, dict):
        settings.update({f"anchor_{name}": anchors[name] for name in AnchorShapes._fields if name in anchors})
    recipe = Recipe.from_dict({"loss": "ohem" if about["background"] else "ap", **settings}, str(description))
    return network, recipe, about


def parameters_described(folder: Path) -> str | None:
    """Return which parameters a folder's description is of; None where there is none that says so."""
    try:
        return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get("parameters")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None


def _read_description(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportedError(f"no {path}: it is written beside the network and belongs to it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportedError(f"{path} cannot be read as JSON ({error})") from error
    wanted = ("classes", "background", "pixels", "shown_score", "calibration", *TEST_SETTINGS)
    missing = [name for name in wanted if not isinstance(about, dict) or name not in about]
    if missing:
        raise ExportedError(f"{path} lacks {', '.join(missing)}: export the detector again")
    classes = about["classes"]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ExportedError(f"{path}: classes must be a list of names")
    fitted = about["calibration"]
    if fitted is not None:  # that of metrics.json has more fields
        fitted = [fitted.get(name) for name in ("slope", "offset")] if isinstance(fitted, dict) else []
    if not is_calibration(fitted):
        raise ExportedError(f"{path}: calibration must be null, or a slope above 0 and an offset")
    if not is_number(about["shown_score"]):
        raise ExportedError(f"{path}: shown_score must be a number")
    return {**about, "calibration": fitted}
