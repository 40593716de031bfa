"""CUDA for MXNet: loads its libraries from PyPI, tells what they see here, and what MXNet 1.9.1 cannot use."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from importlib import metadata
from pathlib import Path
from typing import Callable, Collection, NamedTuple

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
# Compute capabilities that mxnet-cu112 1.9.1 has machine code for; each runs on later ones of its major number. It has
# no PTX, from which a driver could make code for others.
CODE = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
CUDA = (11, 8)  # of setup.py's NVRTC: older drivers do not take its PTX
MAJOR, MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor and Minor


def load_cuda_libraries() -> list[Path]:
    """Load the libraries of installed ``nvidia-*-cu11`` packages, where MXNet's CUDA build is installed.

    So that it needs no LD_LIBRARY_PATH: the loader takes a library that is loaded already for one that is asked for by
    its soname. What is not installed is left to the system's CUDA.

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
            "without a GPU, pip install '.[cpu]' in an environment of its own"
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


class GPU(NamedTuple):
    """A device, by its number for MXNet, the maker's name and its compute capability."""

    number: int
    name: str
    capability: tuple[int, int]

    def problem(self) -> str:
        """Return why MXNet cannot use it; empty if it can."""
        if any(self.capability[0] == major and self.capability[1] >= minor for major, minor in CODE):
            return ""
        version = ".".join(map(str, self.capability))
        newer = " (Hopper and newer)" if self.capability > CODE[-1] else ""
        return f"mxnet-cu112 1.9.1 has no code for compute capability {version}{newer}: it runs on 5.0 to 8.9"


class Libraries(NamedTuple):
    """Versions of what MXNet has loaded."""

    driver: tuple[int, int]
    runtime: tuple[int, int]
    cudnn: str

    def problem(self) -> str:
        """Return why they do not go together; empty if they do."""
        if self.driver < CUDA:
            version = ".".join(map(str, self.driver))
            return f"the driver is of CUDA {version}, and NVRTC 11.8 wants one of 11.8 or newer (driver 520 or newer)"
        return ""


def find_libraries() -> Libraries:
    """Return the versions; raises OSError where a library is missing."""
    runtime, cudnn = ctypes.CDLL("libcudart.so.11.0"), ctypes.CDLL("libcudnn.so.8")
    cudnn.cudnnGetVersion.restype = ctypes.c_size_t
    version = cudnn.cudnnGetVersion()
    driver, own = _number(runtime.cudaDriverGetVersion), _number(runtime.cudaRuntimeGetVersion)
    return Libraries(
        (driver // 1000, driver % 1000 // 10),
        (own // 1000, own % 1000 // 10),
        f"{version // 1000}.{version % 1000 // 100}.{version % 100}",
    )


def find_gpus() -> list[GPU]:
    """Return the devices that the CUDA runtime sees; raises OSError where it is missing."""
    runtime = ctypes.CDLL("libcudart.so.11.0")
    gpus = []
    for number in range(_number(runtime.cudaGetDeviceCount)):
        properties = ctypes.create_string_buffer(4096)  # cudaDeviceProp, which begins with the name
        runtime.cudaGetDeviceProperties(properties, number)
        major, minor = (_number(runtime.cudaDeviceGetAttribute, which, number) for which in (MAJOR, MINOR))
        gpus.append(GPU(number, properties.value.decode(), (major, minor)))
    return gpus


def problems_of(numbers: Collection[int]) -> list[str]:
    """Return why the wheel of MXNet cannot use some of these GPUs; empty where it can, or MXNet is another build."""
    try:
        metadata.distribution(MXNET)
        gpus = find_gpus()
    except (metadata.PackageNotFoundError, OSError):
        return []
    return [f"gpu({gpu.number}): {gpu.problem()}" for gpu in gpus if gpu.number in numbers and gpu.problem()]


def _number(function: Callable[..., int], *arguments: int) -> int:
    number = ctypes.c_int()
    return number.value if function(ctypes.byref(number), *arguments) == 0 else 0
