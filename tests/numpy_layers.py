"""Layers and whole ResNets in NumPy, written apart from MXNet: what the networks' tests compare with.

Feature maps are float64 (C, H, W). Weights come by the names of torchvision's state dicts.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def convolve(maps, weight, bias=None, stride=1, padding=0):
    """Cross-correlate maps with a weight (O, C, k, k)."""
    padded = np.pad(maps.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    result = np.tensordot(weight.astype(np.float64), windows, axes=([1, 2, 3], [0, 3, 4]))
    return result if bias is None else result + bias[:, None, None]


def max_pool_3_by_2(maps):
    """Return the maxima under 3×3 windows, each 2 pixels on from the last, over maps that are nowhere negative."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    return sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))


def enlarge(maps):
    """Return maps twice as high and wide, each pixel repeated."""
    return maps.repeat(2, axis=1).repeat(2, axis=2)


def relu(maps):
    return np.maximum(maps, 0)


def resnet_stages(state, image):
    """Return C2, C3, … of an image (3, H, W), as far as the state dict holds whole stages.

    The dict tells the kind of the network: a ``conv3`` makes bottlenecks, with the stride in the middle; a
    convolution's bias means that its BatchNorm was folded into it.
    """

    def unit(maps, conv, norm, stride=1):
        weight = state[f"{conv}.weight"]
        maps = convolve(maps, weight, state.get(f"{conv}.bias"), stride, padding=weight.shape[2] // 2)
        if f"{conv}.bias" in state:
            return maps
        gamma, beta, mean, variance = (
            state[f"{norm}.{role}"][:, None, None] for role in ("weight", "bias", "running_mean", "running_var")
        )
        return (maps - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def block(maps, name, stride):
        last = 3 if f"{name}.conv3.weight" in state else 2
        shortcut = maps
        if f"{name}.downsample.0.weight" in state:
            shortcut = unit(maps, f"{name}.downsample.0", f"{name}.downsample.1", stride)
        for number in range(1, last + 1):
            strided = stride if number == last - 1 else 1
            maps = unit(maps, f"{name}.conv{number}", f"{name}.bn{number}", strided)
            maps = relu(maps) if number < last else relu(maps + shortcut)
        return maps

    maps = max_pool_3_by_2(relu(unit(image, "conv1", "bn1", 2)))
    stages = []
    for stage in count(1):
        if f"layer{stage}.0.conv1.weight" not in state:
            return stages
        for number in count():
            if f"layer{stage}.{number}.conv1.weight" not in state:
                break
            maps = block(maps, f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
        stages.append(maps)
    return stages
