"""Load CUDA from its PyPI packages, so that MXNet's CUDA build finds its libraries without LD_LIBRARY_PATH."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from importlib import metadata
from pathlib import Path

MXNET = "mxnet-cu112"
DRIVER = "libcuda.so.1"
# What libmxnet.so and cuDNN ask for, by soname; each stands after those it needs itself.
SONAMES = (
    "libcudart.so.11.0",
    "libnvToolsExt.so.1",
    "libcublasLt.so.11",
    "libcublas.so.11",
    "libcudnn.so.8",
    "libcudnn_ops_infer.so.8",
    "libcudnn_cnn_infer.so.8",
    "libcudnn_adv_infer.so.8",
    "libcudnn_ops_train.so.8",
    "libcudnn_cnn_train.so.8",
    "libcudnn_adv_train.so.8",
    "libcufft.so.10",
    "libcurand.so.10",
    "libcusolver.so.11",
    "libnccl.so.2",
    "libnvrtc.so.11.2",
)


def load_cuda_libraries() -> list[Path]:
    """Load the libraries of installed ``nvidia-*-cu11`` packages, where MXNet's CUDA build is installed.

    The loader takes a library that is loaded already for one that is asked for by its soname. What is not installed is
    left to the system's CUDA.

    Returns
    -------
    list of Path
        The files that were loaded; empty where MXNet is the CPU's, or not installed.

    Raises
    ------
    ImportError
        If MXNet's CUDA build is installed and NVIDIA's driver is not: `import mxnet` would fail.
    """
    try:
        metadata.distribution(MXNET)
    except metadata.PackageNotFoundError:
        return []
    if not _load(DRIVER):
        raise ImportError(
            f"{MXNET} is installed and needs NVIDIA's driver ({DRIVER}), which this machine lacks or hides; "
            "without a GPU, install aploss_mx[cpu] in an environment of its own"
        )
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = [path for name in SONAMES for folder in folders for path in folder.glob(f"*/lib/{name}")]
    return [path for path in found if _load(path)]


def _load(library: str | Path) -> bool:
    try:
        ctypes.CDLL(os.fspath(library), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
