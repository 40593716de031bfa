"""Load pretrained backbones: GluonCV's own, a ``.params`` file, or a state dict in torchvision's naming.

``python -m aploss_mx.training.pretrained convert state.safetensors weights.params --network resnet50_v1b`` writes
a state dict (``.npz`` or ``.safetensors``) as GluonCV parameters, and lists what it lacks and what it has too much.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import mxnet as mx
import numpy as np
from gluoncv.model_zoo import get_model
from safetensors import SafetensorError
from safetensors.numpy import load_file

from aploss_mx.archive import ArchiveError, read_npz, write_params
from aploss_mx.arguments import ArgumentParser
from aploss_mx.model_zoo import model_names, model_path
from symbols.resnet import BACKBONES, ResNetFeatures

BATCH_NORM_EPS = 1e-5
CLASSIFIERS = ("fc.", "output.")
PYTORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
PICKLE = b"\x80\x02"
CONVERSION = (
    "python -c \"import torch; from safetensors.torch import save_file; state = torch.load('{0}', map_location='cpu'); "
    "save_file({{name: array.contiguous() for name, array in state.items()}}, '{0}.safetensors')\"; "
    "then give --pretrained {0}.safetensors"
)


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why."""


class Pretrained(NamedTuple):
    """What weights and a backbone do not have in common.

    Attributes
    ----------
    at_random : list of str
        The backbone's parameters that the weights lack.
    left_over : list of str
        What the weights hold besides, but for a classifier.
    """

    at_random: list[str]
    left_over: list[str]


def load_pretrained(backbone: ResNetFeatures, name: str, source: str) -> Pretrained:
    """Fill a backbone with pretrained weights and freeze what they cover; returns what they do not cover.

    Parameters
    ----------
    backbone : ResNetFeatures
        Initialised.
    name : str
        Its name, as in `symbols.backbones.BACKBONES`.
    source : str
        'none', 'gluoncv' (downloaded and checked by GluonCV), or the path of a ``.params``, ``.npz`` or
        ``.safetensors`` file.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable, of other shapes or no finite numbers, or has nothing in common with the
        backbone.
    """
    params = backbone._collect_params_with_prefix()
    if source == "none":
        return Pretrained(sorted(params), [])
    arrays = _from_gluoncv(name) if source == "gluoncv" else _from_file(Path(os.path.expanduser(source)))
    found = {}
    for key, array in arrays.items():
        if key in params:
            if params[key].shape != array.shape:
                raise WeightsError(f"{source}: {key} has shape {array.shape}, {name} wants {params[key].shape}")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise WeightsError(f"{source}: {key}, of type {array.dtype}, holds what is no finite number")
            found[key] = array
    if not found:
        raise WeightsError(f"{source} holds no parameter of {name}; it holds {', '.join(sorted(arrays)[:5])} …")
    for key, array in found.items():
        params[key].set_data(mx.nd.array(array))
    backbone.freeze(set(found))
    left_over = sorted(key for key in set(arrays) - set(found) if not key.startswith(CLASSIFIERS))
    return Pretrained(sorted(set(params) - set(found)), left_over)


def check_source(source: str) -> None:
    """Raise WeightsError if pretrained weights are to come from a file that is not there."""
    if source not in ("none", "gluoncv") and not model_path(source).is_file():
        raise WeightsError(
            f"no file {source}; --pretrained takes 'gluoncv', 'none', a .params, .npz or .safetensors file, or "
            f"a detector by name: {', '.join(model_names())}"
        )


def _from_gluoncv(name: str) -> dict[str, np.ndarray]:
    try:
        classifier = get_model(name, pretrained=True)
    except Exception as error:
        raise WeightsError(
            f"GluonCV could not download {name} ({error}); give a file with --pretrained, or start with 'none'"
        ) from error
    return {key: param.data().asnumpy() for key, param in classifier._collect_params_with_prefix().items()}


def _from_file(path: Path) -> dict[str, np.ndarray]:
    check_source(str(path))
    if _is_pytorch(path):
        raise WeightsError(
            f"{path} is a file of PyTorch; where that is installed, convert it: {CONVERSION.format(path)}"
        )
    try:
        if path.suffix == ".npz":
            return from_torchvision(read_npz(path))
        if path.suffix == ".safetensors":
            return from_torchvision(_numpys_own(load_file(path)))
        arrays = mx.nd.load(str(path))
        if isinstance(arrays, list):
            raise WeightsError(f"{path} is no readable weights file: its arrays have no names")
        return {key.split(":")[-1]: array.asnumpy() for key, array in arrays.items()}
    except (TypeError, AttributeError) as error:  # of safetensors, for bfloat16 and for 8 bits
        raise WeightsError(f"{path} holds a type of number that NumPy lacks ({error}); save it as float32") from error
    except (OSError, ArchiveError, SafetensorError) as error:
        raise WeightsError(f"{path} is no readable weights file: {error}") from error
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]  # MXNet puts its own stack above
        raise WeightsError(f"{path} is no readable weights file: {reason}") from error


def _numpys_own(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays; raise TypeError as safetensors does for bfloat16 where nobody has imported ml_dtypes."""
    foreign = [array.dtype.name for array in arrays.values() if array.dtype.isbuiltin == 2]  # others' than NumPy's
    if foreign:
        raise TypeError(f"data type {foreign[0]}")
    return arrays


def _is_pytorch(path: Path) -> bool:
    """Whether a file has PyTorch's name, or is one of its pickles in either of its formats."""
    if path.suffix in PYTORCH_SUFFIXES:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # whatever zipfile raises on other files
        with open(path, "rb") as file:
            return file.read(2) == PICKLE


def from_torchvision(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename a torchvision ResNet state dict to GluonCV's parameters.

    Convolutions with a bias have their BatchNorm folded in: the bias becomes the beta of the BatchNorm behind, whose
    gamma is 1 and whose statistics change nothing. Where such a convolution's weight is missing, its BatchNorm is
    left out too.

    Parameters
    ----------
    state : dict of str to ndarray
        Names as in torchvision: ``layer1.0.conv1.weight``, ``layer1.0.bn1.running_mean`` …

    Returns
    -------
    dict of str to ndarray
        Names as in GluonCV's ResNet v1b, which has torchvision's layer names; what has no place there keeps its own.
        Counters of batches are left out.
    """
    roles = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    arrays = {}
    for key, array in state.items():
        layer, _, role = key.rpartition(".")
        module = layer.rpartition(".")[2]
        if role == "num_batches_tracked":
            continue
        if module.startswith("bn") or layer.endswith("downsample.1"):
            arrays[f"{layer}.{roles.get(role, role)}"] = array
        elif role == "weight" or module == "fc":
            arrays[key] = array
        elif role == "bias" and f"{layer}.weight" in state:
            norm = f"{layer[:-1]}1" if module == "0" else layer.replace("conv", "bn")
            arrays[f"{norm}.gamma"] = np.ones_like(array)
            arrays[f"{norm}.beta"] = array
            arrays[f"{norm}.running_mean"] = np.zeros_like(array)
            arrays[f"{norm}.running_var"] = np.full_like(array, 1 - BATCH_NORM_EPS)
        else:
            arrays[key] = array
    return arrays


def convert(source: str, target: str, name: str) -> Pretrained:
    """Write the weights of `source` that backbone `name` has, as a ``.params`` file with GluonCV's names.

    Raises
    ------
    WeightsError
        As `load_pretrained`.
    """
    backbone = ResNetFeatures(name)
    backbone.initialize_random(mx.cpu())
    result = load_pretrained(backbone, name, source)
    params = backbone._collect_params_with_prefix()
    arrays = {key: param.data() for key, param in params.items() if key not in result.at_random}
    write_params(Path(target), arrays)
    return result


def main(argv: list[str] | None = None) -> None:
    """Convert from the command line."""
    parser = ArgumentParser("python -m aploss_mx.training.pretrained", description="Weights for the backbones.")
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert", help="write a torchvision state dict as GluonCV parameters")
    converting.add_argument("source", help=".npz or .safetensors file in torchvision's naming")
    converting.add_argument("target", help=".params file to write")
    converting.add_argument("--network", required=True, choices=BACKBONES, metavar="NAME", help=", ".join(BACKBONES))
    arguments = parser.parse_args(argv)
    try:
        result = convert(arguments.source, arguments.target, arguments.network)
    except (WeightsError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {arguments.target}; lacking: {', '.join(result.at_random) or 'nothing'}")
    print(f"left over: {', '.join(result.left_over) or 'nothing'}")


if __name__ == "__main__":
    main()
