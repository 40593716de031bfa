"""Tell what MXNet's CUDA libraries see of this machine, and what MXNet 1.9.1 cannot use."""

from __future__ import annotations

import ctypes
from typing import Callable, NamedTuple

# Compute capabilities that mxnet-cu112 1.9.1 has machine code for; each runs on later ones of its major number. It has
# no PTX, from which a driver could make code for others.
CODE = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
CUDA = (11, 2)
MAJOR, MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor and Minor


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
            return f"the driver is of CUDA {self.driver[0]}.{self.driver[1]}, and mxnet-cu112 wants 11.2 or newer"
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


def _number(function: Callable[..., int], *arguments: int) -> int:
    number = ctypes.c_int()
    return number.value if function(ctypes.byref(number), *arguments) == 0 else 0
