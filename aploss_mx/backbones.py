"""Pretrained weights for the backbones: GluonCV's own, a ``.params`` file, or an ``.npz`` in torchvision's naming."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
from gluoncv.model_zoo import get_model

from aploss_mx.archive import ArchiveError, read_npz
from symbols.resnet import ResNetFeatures

BATCH_NORM_EPS = 1e-5


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why."""


def load_pretrained(backbone: ResNetFeatures, name: str, source: str) -> list[str]:
    """Fill a backbone with pretrained weights, freeze what they cover, and return the parameters left at random.

    Parameters
    ----------
    backbone : ResNetFeatures
        Initialised.
    name : str
        Its name, as in `symbols.resnet.BACKBONES`.
    source : str
        'none', 'gluoncv' (downloaded and checked by GluonCV), or the path of a ``.params`` or ``.npz`` file.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable, of other shapes, or has nothing in common with the backbone.
    """
    params = backbone._collect_params_with_prefix()
    if source == "none":
        return sorted(params)
    arrays = _from_gluoncv(name) if source == "gluoncv" else _from_file(Path(source))
    found = {}
    for key, array in arrays.items():
        if key in params:
            if params[key].shape != array.shape:
                raise WeightsError(f"{source}: {key} has shape {array.shape}, {name} wants {params[key].shape}")
            found[key] = array
    if not found:
        raise WeightsError(f"{source} holds no parameter of {name}; it holds {', '.join(sorted(arrays)[:5])} …")
    for key, array in found.items():
        params[key].set_data(mx.nd.array(array))
    backbone.freeze(set(found))
    return sorted(set(params) - set(found))


def _from_gluoncv(name: str) -> dict[str, np.ndarray]:
    try:
        classifier = get_model(name, pretrained=True)
    except Exception as error:
        raise WeightsError(
            f"GluonCV could not download {name} ({error}); give a file with --pretrained, or start with 'none'"
        ) from error
    return {key: param.data().asnumpy() for key, param in classifier._collect_params_with_prefix().items()}


def _from_file(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise WeightsError(f"no file {path}; --pretrained takes 'gluoncv', 'none', a .params or an .npz file")
    try:
        if path.suffix == ".npz":
            return from_torchvision(read_npz(path))
        return {key.split(":")[-1]: array.asnumpy() for key, array in mx.nd.load(str(path)).items()}
    except AttributeError:
        raise WeightsError(f"{path} is no readable weights file: its arrays have no names") from None
    except (OSError, ArchiveError) as error:
        raise WeightsError(f"{path} is no readable weights file: {error}") from error
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]  # MXNet puts its own stack above
        raise WeightsError(f"{path} is no readable weights file: {reason}") from error


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
        Names as in GluonCV's ResNet v1b, which has torchvision's layer names.
    """
    roles = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    arrays = {}
    for key, array in state.items():
        layer, _, role = key.rpartition(".")
        module = layer.rpartition(".")[2]
        if module.startswith("bn") or layer.endswith("downsample.1"):
            if role in roles:
                arrays[f"{layer}.{roles[role]}"] = array
        elif role == "weight" or module == "fc":
            arrays[key] = array
        elif role == "bias" and f"{layer}.weight" in state:
            norm = f"{layer[:-1]}1" if module == "0" else layer.replace("conv", "bn")
            arrays[f"{norm}.gamma"] = np.ones_like(array)
            arrays[f"{norm}.beta"] = array
            arrays[f"{norm}.running_mean"] = np.zeros_like(array)
            arrays[f"{norm}.running_var"] = np.full_like(array, 1 - BATCH_NORM_EPS)
    return arrays
