"""Backbones and weights for the tests of pretrained weights, all at random."""

from __future__ import annotations

import math
from functools import lru_cache

import mxnet as mx
import numpy as np

from symbols.resnet import ResNetFeatures

BLOCKS = {
    "resnet18_v1b": (2, 2, 2, 2),
    "resnet34_v1b": (3, 4, 6, 3),
    "resnet50_v1b": (3, 4, 6, 3),
    "resnet101_v1b": (3, 4, 23, 3),
}
NUMBER_OF_PARAMETERS = {
    "resnet18_v1b": 11_689_512,
    "resnet34_v1b": 21_797_672,
    "resnet50_v1b": 25_557_032,
    "resnet101_v1b": 44_549_160,
}


@lru_cache(maxsize=1)  # the largest has 180 MB
def torchvision_state(name: str) -> dict[str, np.ndarray]:
    """A ResNet's state dict as torchvision names it, filled at random, its classifier included; not to be changed."""
    rng = np.random.default_rng(0)
    state = {}

    def add(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
        std = math.sqrt(2 / (inputs * kernel * kernel))
        state[f"{conv}.weight"] = rng.normal(0, std, (outputs, inputs, kernel, kernel)).astype(np.float32)
        state[f"{norm}.weight"] = rng.uniform(0.4, 0.8, outputs).astype(np.float32)
        state[f"{norm}.bias"] = rng.normal(0, 0.2, outputs).astype(np.float32)
        state[f"{norm}.running_mean"] = rng.normal(0, 0.2, outputs).astype(np.float32)
        state[f"{norm}.running_var"] = rng.uniform(0.5, 2, outputs).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(7)

    bottleneck = name in ("resnet50_v1b", "resnet101_v1b")
    add("conv1", "bn1", 3, 64, 7)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS[name], 1):
        width = 32 * 2**stage
        outputs = 4 * width if bottleneck else width
        for number in range(blocks):
            block = f"layer{stage}.{number}"
            sides = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for place, side in enumerate(sides if bottleneck else [(inputs, width, 3), (width, width, 3)], 1):
                add(f"{block}.conv{place}", f"{block}.bn{place}", *side)
            if inputs != outputs:
                add(f"{block}.downsample.0", f"{block}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    state["fc.weight"] = rng.normal(0, 0.01, (1000, inputs)).astype(np.float32)
    state["fc.bias"] = np.zeros(1000, np.float32)
    learnable = [array.size for key, array in state.items() if "running" not in key and "num_" not in key]
    assert sum(learnable) == NUMBER_OF_PARAMETERS[name]
    return state


def random_backbone(name: str = "resnet18_v1b") -> ResNetFeatures:
    mx.random.seed(0)
    backbone = ResNetFeatures(name)
    backbone.initialize_random([mx.cpu()])
    return backbone


def values(backbone: ResNetFeatures) -> dict[str, np.ndarray]:
    return {name: param.data().asnumpy() for name, param in backbone._collect_params_with_prefix().items()}


def random_image(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (3, height, width)).astype(np.float32)


def features(backbone: ResNetFeatures, image: np.ndarray) -> list[np.ndarray]:
    return [maps.asnumpy()[0] for maps in backbone(mx.nd.array(image[None]))]


def assert_close(maps: np.ndarray, expected: np.ndarray) -> None:
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def is_live(backbone: ResNetFeatures, name: str) -> bool:
    """Whether a parameter has a gradient."""
    return backbone._collect_params_with_prefix()[name].grad_req != "null"
