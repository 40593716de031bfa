"""CUDA's libraries are loaded from their packages before MXNet needs them; a GPU is told what it is unfit for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from emulated_gpu import compiler
from tiny_training import running

from aploss_mx import cli, cuda
from aploss_mx.cuda import GPU, Libraries

# In a process of its own, where nothing is loaded yet; MXNet's CUDA build is taken to be installed.
PROGRAM = """
import ctypes, sys
from importlib import metadata
from aploss_mx import cuda
metadata.distribution = str
cuda.DRIVER, user, packages = sys.argv[1:]
sys.path.insert(0, packages)
try:
    ctypes.CDLL(user)
except OSError as error:
    print(error)
print([path.name for path in cuda.load_cuda_libraries()])
print(ctypes.CDLL(user).runtime_version())
"""


def build(target: Path, source: str, *libraries: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-x", "c++", "-", "-x", "none"]
    command = [compiler(), *flags, *map(str, libraries), "-o", str(target)]
    subprocess.run(command, input=f'extern "C" {source}', text=True, check=True)
    return target


@pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")
def test_a_library_finds_what_was_loaded_by_its_name_alone(tmp_path):
    packages = tmp_path / "packages"
    folder = packages / "nvidia" / "cuda_runtime" / "lib"
    driver = build(tmp_path / "libcuda.so.1", "int cuInit(unsigned) { return 100; }")
    runtime = build(folder / "libcudart.so.11.0", "int version() { return 11080; }")
    build(folder / "libcudart.so.12", "int version() { return 12000; }")  # CUDA 12's packages share the folder
    (packages / "nvidia" / "__init__.py").write_text("")
    user = build(
        tmp_path / "libuser.so", 'int version(); extern "C" int runtime_version() { return version(); }', runtime
    )
    with running([sys.executable, "-c", PROGRAM, *map(str, (driver, user, packages))]) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    missing, loaded, version = stdout.splitlines()
    assert "libcudart.so.11.0: cannot open shared object file" in missing
    assert loaded == "['libcudart.so.11.0']"
    assert version == "11080"


def test_without_the_cuda_build_nothing_is_loaded(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert cuda.load_cuda_libraries() == []


def test_the_cuda_build_without_a_driver_is_told(monkeypatch):
    monkeypatch.setattr(metadata, "distribution", str)
    monkeypatch.setattr(cuda, "DRIVER", "libno_driver.so.1")
    with pytest.raises(ImportError, match=r"mxnet-cu112 is installed and needs NVIDIA's d.*pip install '\.\[cpu\]'"):
        cuda.load_cuda_libraries()


def test_commands_tell_so_without_a_traceback(monkeypatch):
    monkeypatch.setattr(metadata, "distribution", str)
    monkeypatch.setattr(cuda, "DRIVER", "libno_driver.so.1")
    monkeypatch.setattr(cli, "import_module", lambda _: cuda.load_cuda_libraries())  # as MXNet's import, done here
    with pytest.raises(SystemExit, match="^error: mxnet-cu112 is installed and needs NVIDIA's driver"):
        cli.main(["demo"])


@pytest.mark.parametrize("capability", [(5, 0), (5, 2), (6, 1), (7, 5), (8, 0), (8, 6), (8, 9)])
def test_from_maxwell_to_ada(capability):
    assert GPU(0, "a GPU", capability).problem() == ""


@pytest.mark.parametrize(("capability", "told"), [((3, 5), "3.5: it"), ((9, 0), "9.0 (Hopper"), ((10, 0), "10.0 (Hop")])
def test_no_others(capability, told):
    assert f"no code for compute capability {told}" in GPU(0, "a GPU", capability).problem()


def test_an_old_driver():
    assert Libraries((12, 4), (11, 8), "8.9.6").problem() == ""
    for version in ((10, 2), (11, 2), (11, 7)):
        told = f"the driver is of CUDA {version[0]}.{version[1]}, .* wants one of 11.8 or newer .driver 520 or newer"
        assert re.match(told, Libraries(version, (11, 8), "8.9.6").problem())
    assert Libraries((11, 8), (11, 8), "8.9.6").problem() == ""
