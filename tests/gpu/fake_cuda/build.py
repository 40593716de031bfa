"""Build the CUDA libraries that the mxnet-cu112 of this Python asks for, as fakes: `python build.py FOLDER`.

What MXNet needs of the driver, the runtime, cuDNN and cuBLAS is written here, NVRTC is the real one, and whatever else
MXNet imports ends the program with its name when it is called.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from aploss_mx.ranking.gpu.launches import SOURCE, Kernel, read_kernels

HERE = Path(__file__).resolve().parent
# Calls by the begin of their names: the libraries and the sources of their own code.
LIBRARIES = {
    "cu": ("libcuda.so.1", ["device", "driver"]),  # first, since the others use its devices
    "cuda": (
        "libcudart.so.11.0",
        ["runtime", "mxnet_kernels", "batch_norm", "radix_sort", "mshadow_plans", "functors", "kernel_name", "numbers"],
    ),
    "cudnn": ("libcudnn.so.8", ["cudnn"]),
    "cublas": ("libcublas.so.11", ["cublas"]),
    "cufft": ("libcufft.so.10", []),
    "cusolver": ("libcusolver.so.11", []),
    "curand": ("libcurand.so.10", []),
    "nccl": ("libnccl.so.2", []),
    "nvtx": ("libnvToolsExt.so.1", []),
}
# MXNet sets these libraries up with every device, whether it will use them or not.
SILENT = r"(Create\w*|Destroy\w*|SetStream\w*|(Get|Set)MathMode|SetPointerMode\w*|SetPseudoRandomGeneratorSeed)(_v2)?$"


def build(folder: Path) -> None:
    """Compile all libraries into a folder, for LD_LIBRARY_PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = folder / "objects"
    objects.mkdir(exist_ok=True)
    _write(objects / "kernels.cpp", _kernels())
    sources = [*HERE.glob("*.cpp"), objects / "kernels.cpp"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda source: _compile(source, objects), sources))
    # By its distribution: the CPU's build has a module of the same name.
    imports = _imports(Path(distribution("mxnet-cu112").locate_file("mxnet/libmxnet.so")))
    for begin, (name, parts) in LIBRARIES.items():
        own = [objects / f"{part}.o" for part in parts]
        defined = set().union(*map(_defined, own)) if own else set()
        stubs = objects / f"{begin}_stubs.cpp"
        _write(stubs, _stubs(sorted(imports[begin].keys() - defined)))
        _compile(stubs, objects)
        (version,) = set(imports[begin].values())
        script = objects / f"{begin}.map"
        script.write_text(f"{version} {{ global: *; }};\n" if version else "{ global: *; };\n")
        shared = ["-ldl"] if begin == "cu" else [folder / LIBRARIES["cu"][0]]
        _link(folder / name, [*own, objects / f"{begin}_stubs.o"], f"-Wl,--version-script={script}", *shared)
    _link(folder / "libkernels.so", [objects / "kernels.o"], folder / LIBRARIES["cu"][0])
    for file in Path(find_spec("nvidia.cuda_nvrtc").submodule_search_locations[0], "lib").glob("libnvrtc*.so*"):
        shutil.copy(file, folder)


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text() != text:  # or it would be compiled again
        file.write_text(text)


def _compile(source: Path, objects: Path) -> None:
    target = objects / f"{source.stem}.o"
    needed = [source, *HERE.glob("*.h"), HERE.parents[1] / "cuda_on_cpu.h", SOURCE]
    if target.exists() and target.stat().st_mtime > max(file.stat().st_mtime for file in needed):
        return
    # Without contraction: a CPU's fused multiplication is not asked for, and rounds otherwise.
    flags = ["-std=c++14", "-O3", "-ffp-contract=off", "-fPIC", "-Wall", "-Wno-unused-function", "-I", HERE]
    _run("c++", *flags, "-c", source, "-o", target)


def _link(library: Path, objects: list[Path], *flags: object) -> None:
    _run("c++", "-shared", "-o", library, *objects, f"-Wl,-soname,{library.name}", *flags)


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def _imports(library: Path) -> dict[str, dict[str, str]]:
    """Return the CUDA calls that a library imports, with their versions, by the libraries they come from."""
    found = defaultdict(dict)
    for line in _run("nm", "-D", "--undefined-only", library).splitlines():
        name, _, version = line.split()[-1].partition("@")
        begins = [begin for begin in LIBRARIES if re.match(f"_*{begin}", name)]
        if begins:
            found[max(begins, key=len)][name] = version
    return found


def _defined(file: Path) -> set[str]:
    return {line.split()[-1] for line in _run("nm", "--defined-only", file).splitlines()}


def _stubs(names: list[str]) -> str:
    lines = ['#include "device.h"', 'extern "C" {']
    for name in names:
        if re.search(SILENT, name) and not name.startswith("nccl"):
            lines.append(f"int {name}(void **first) {{ return {'*first = first, ' if 'Create' in name else ''}0; }}")
        else:
            lines.append(f'int {name}() {{ fake::fail("tests/gpu/fake_cuda has no function {name}"); }}')
    return "\n".join([*lines, "}"])


def _kernels() -> str:
    """Return C++ that runs the launches of kernels.cu by name."""
    header = HERE.parents[1] / "cuda_on_cpu.h"
    lines = [f'#include "{header}"', f'#include "{SOURCE}"', '#include "launch.h"']
    lines += [
        'extern "C" fake::Work *prepare_launch(const char *name, unsigned blocks, unsigned threads, void **arguments,',
        "                                      int device) {",
        "    const std::string kernel = name;",
        *map(_case, read_kernels().values()),
        "    return nullptr;",
        "}",
    ]
    return "\n".join(lines)


def _case(kernel: Kernel) -> str:
    reads = [f"Argument<{kind}>(arguments[{i}])" for i, (kind, _) in enumerate(kernel.parameters)]
    values = [f"a{i}.value(device)" for i in range(len(reads))]
    declared = "\n".join(
        f"        const {read.split('(')[0]} a{i}({read.split('(', 1)[1]};" for i, read in enumerate(reads)
    )
    return f"""    if (kernel == "{kernel.name}") {{
{declared}
        return new fake::Work([=] {{
            refuse_shared_arrays("{kernel.name}", {{{", ".join(f"a{i}.array(device)" for i in range(len(reads)))}}});
            const char *failure = launch(blocks, threads, false, [&] {{ {kernel.name}({", ".join(values)}); }});
            if (failure) fake::fail("{kernel.name}: %s", failure);
        }});
    }}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)
