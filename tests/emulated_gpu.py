"""A device for `aploss_mx.ranking.gpu.launches` that runs the kernels' own source on the CPU, compiled as C++."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from aploss_mx.ranking.gpu.launches import SOURCE, THREADS, Kernel, read_kernels

CTYPES = {"int": ctypes.c_int, "float": ctypes.c_float, "double": ctypes.c_double}
DTYPES = {"int": np.int32, "int64_t": np.int64, "float": np.float32, "double": np.float64}


def compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def build(folder: Path, kernels: Path = SOURCE, counting: bool = False) -> ctypes.CDLL:
    """Compile kernels.cu with a function `run_NAME(blocks, threads, backwards, …)` for each kernel.

    With `counting` each access to memory calls a hook: those of the thread sanitizer, which is not linked.
    """
    source = f'#include "{Path(__file__).with_name("cuda_on_cpu.h")}"\n#include "{kernels}"\n'
    source += "\n".join(map(_runner, read_kernels().values()))
    (folder / "kernels.cpp").write_text(source)
    flags = [
        "-std=c++11",
        "-O2" if counting else "-O1",
        "-fPIC",
        "-ffp-contract=off",
        "-Wall",
        "-Werror",
        "-Wno-unused-function",
    ]
    flags += ["-fsanitize=thread"] if counting else []
    _run(compiler(), *flags, "-c", folder / "kernels.cpp", "-o", folder / "kernels.o")
    _run(compiler(), "-shared", folder / "kernels.o", "-o", folder / "kernels.so")
    return ctypes.CDLL(str(folder / "kernels.so"))


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _runner(kernel: Kernel) -> str:
    parameters = ", ".join(f"{kind} {name}" for kind, name in kernel.parameters)
    arguments = ", ".join(name for _, name in kernel.parameters)
    return (
        f'extern "C" const char *run_{kernel.name}(int blocks_, int threads_, int backwards_, {parameters}) '
        f"{{ return launch(blocks_, threads_, backwards_, [&] {{ {kernel.name}({arguments}); }}); }}"
    )


class EmulatedGPU:
    """Runs launches at once; `backwards` lets blocks and threads take turns in the opposite order."""

    def __init__(self, library: ctypes.CDLL, backwards: bool = False):
        self.compiled = library
        self.backwards = backwards

    def zeros(self, size: int, dtype: str) -> np.ndarray:
        return np.zeros(size, dtype)

    def empty(self, size: int, dtype: str) -> np.ndarray:
        # What a kernel must not count on: no index, no score.
        return np.full(size, np.nan if dtype.startswith("float") else np.iinfo(dtype).max // 2, dtype)

    def read(self, array: np.ndarray) -> np.ndarray:
        return array

    def launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        parameters = read_kernels()[kernel].parameters
        assert len(arguments) == len(parameters), kernel
        converted = [_converted(argument, *parameter) for argument, parameter in zip(arguments, parameters)]
        refuse_shared_arrays(kernel, [_span(arg) if isinstance(arg, np.ndarray) else None for arg in arguments])
        run = getattr(self.compiled, f"run_{kernel}")
        run.restype = ctypes.c_char_p
        failure = run(ctypes.c_int(blocks), ctypes.c_int(THREADS), ctypes.c_int(self.backwards), *converted)
        assert failure is None, f"{kernel}: {failure.decode()}"


def refuse_shared_arrays(kernel: str, spans: list[tuple[int, int] | None]) -> None:
    """Fail where an array that a kernel writes is another of its arguments as well: MXNet's engine would wait for ever.

    `spans` holds for each argument the address and bytes of the whole array that it is a part of.
    """
    parameters = read_kernels()[kernel].parameters
    arrays = [(*span, *parameter) for span, parameter in zip(spans, parameters) if span]
    for (start, size, kind, name), (other, other_size, other_kind, other_name) in combinations(arrays, 2):
        shared = start < other + other_size and other < start + size
        written = not (kind.startswith("const") and other_kind.startswith("const"))
        assert not (shared and written), f"{kernel}: {name} and {other_name} are one array, which it writes"


def _span(array: np.ndarray) -> tuple[int, int]:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.ctypes.data, array.nbytes


def _converted(argument: Any, kind: str, name: str) -> Any:
    if not kind.endswith("*"):
        assert np.isscalar(argument), name
        return CTYPES[kind](argument)
    dtype = DTYPES[kind.replace("const", "").replace("*", "").strip()]
    assert isinstance(argument, np.ndarray) and argument.dtype == dtype and argument.flags.c_contiguous, name
    return ctypes.c_void_p(argument.ctypes.data)
