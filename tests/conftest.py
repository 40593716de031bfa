"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests' networks are tiny: several threads would spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from emulated_gpu import build, compiler

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

SHARED = Path(os.environ.get("APLOSS_MX_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing, and under CI nothing that needs it may skip")
        pytest.skip(f"needs {folder} (set APLOSS_MX_SHARED to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets VOCdevkit, bccd, coco and demo; skips where it is missing."""
    return _existing(SHARED / "data")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The GPU kernels compiled for the CPU, for `emulated_gpu.EmulatedGPU`; skips where there is no compiler."""
    if compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("there is no C++ compiler, and under CI nothing that needs one may skip")
        pytest.skip("needs a C++ compiler")
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The ImageNet ResNet-18 in torchvision naming; skips where it is missing."""
    return _existing(SHARED / "weights") / "resnet18_imagenet_bnfolded_stem_to_layer3.npz"
