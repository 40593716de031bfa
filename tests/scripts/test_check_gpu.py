"""The check of the GPU kernels, with CuPy played by NumPy and the GPU by the CPU: it passes, and it can fail."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from emulated_gpu import EmulatedGPU
from narrow_network import NAME

from aploss_mx.commands import check_gpu
from aploss_mx.ranking.gpu import rtc
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, THREADS, read_source
from symbols.retinanet import get_network


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Few scores and a narrow network."""
    monkeypatch.setitem(check_gpu.BATCHES, "small", ((2, 500, 4), 30))
    monkeypatch.setattr(check_gpu, "get_network", lambda _, *rest: get_network(NAME, *rest))


@pytest.fixture
def emulated(kernels, monkeypatch) -> EmulatedGPU:
    """The device behind a module `cupy` that takes what CuPy takes."""
    device = EmulatedGPU(kernels)

    class RawModule:
        def __init__(self, code, options):
            assert (code, options) == (read_source(), COMPILER_OPTIONS)

        def get_function(self, name):
            def launch(grid, block, args):
                assert block == (THREADS,)
                # CuPy passes a Python float as a double and an int as 64 bits: numbers must say what they are.
                assert all(isinstance(arg, (np.ndarray, np.int32, np.float64)) for arg in args)
                device.launch(name, *grid, *args)

            return launch

    class Event:
        def record(self):
            self.time = time.perf_counter()

        def synchronize(self):
            pass

    cuda = SimpleNamespace(
        compiler=SimpleNamespace(CompileException=OSError),
        Event=Event,
        get_elapsed_time=lambda start, end: 1000 * (end.time - start.time),
        Device=lambda: SimpleNamespace(id=0),
        runtime=SimpleNamespace(getDeviceProperties=lambda _: {"name": b"a CPU"}),
    )
    cupy = SimpleNamespace(
        __version__="0", RawModule=RawModule, cuda=cuda, zeros=np.zeros, empty=device.empty,
        empty_like=np.empty_like, asarray=np.array, asnumpy=np.array, copyto=np.copyto,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return device


def test_report_and_table(emulated, tmp_path, capsys):
    output = tmp_path / "new" / "gpu.csv"
    check_gpu.main(["--sizes", "small", "--repeats", "2", "--output", str(output)])
    printed = capsys.readouterr().out
    assert printed.startswith("a CPU, CuPy 0\n")
    assert printed.endswith("all is well\n")
    assert printed.count("gradients: ") == len(check_gpu.METHODS) * 3
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["regime"] for row in rows] == ["early", "mid", "late"]
    assert all(f"| {float(row['microseconds']):.0f} |" in printed for row in rows)
    for row in rows:
        moved = 3 * 4 * int(row["scores"])
        assert float(row["bandwidth"]) == pytest.approx(moved / float(row["microseconds"]) / 1000)
        assert float(row["of a copy"]) > 0


def test_wrong_numbers_are_told(emulated, monkeypatch):
    launch = emulated.launch
    monkeypatch.setattr(emulated, "launch", lambda name, *args: name == "write_positives" or launch(name, *args))
    with pytest.raises(SystemExit, match=r"error: small, early, .*gradients differ by"):
        check_gpu.main(["--sizes", "small"])


def test_other_bits_in_the_second_run_are_told(emulated, monkeypatch):
    launch, calls = emulated.launch, []

    def drift(name, blocks, *args):
        launch(name, blocks, *args)
        if name == "write_positives":
            calls.append(name)
            args[-1].reshape(-1)[:] *= np.float32(1 + len(calls) * 2e-7)

    monkeypatch.setattr(emulated, "launch", drift)
    with pytest.raises(SystemExit, match="two runs give different bits"):
        check_gpu.main(["--sizes", "small"])


def test_without_cupy_or_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit, match="pip install 'cupy-cuda12x<14'"):
        check_gpu.main([])
    with pytest.raises(SystemExit, match="MXNet sees no GPU"):
        check_gpu.main(["--mxnet"])


def test_convolutions_are_not_rounded_to_tf32():
    """Rounded so on the CPU, the gradients of `training_step` differ by 5 % from those that are not."""
    code = """
import os, aploss_mx
from symbols.mxnet_setup import before_mxnet
before_mxnet(lambda: print(os.environ["NVIDIA_TF32_OVERRIDE"], flush=True))  # as the libraries are loaded
import aploss_mx.commands.check_gpu
"""
    given = {name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_a_table_that_is_not_made_cannot_be_written(capsys):
    with pytest.raises(SystemExit):
        check_gpu.main(["--mxnet", "--output", "gpu.csv"])
    assert "--mxnet makes none" in capsys.readouterr().err


def test_ctrl_c_ends_the_script_as_it_ends_the_command(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check_gpu, "check_with_cupy", interrupt)
    with pytest.raises(SystemExit) as end:
        check_gpu.main([])
    assert end.value.code == 130 and capsys.readouterr().err == "\ninterrupted\n"


def test_a_gpu_that_cupy_cannot_use(emulated, monkeypatch):
    def no_driver():
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(sys.modules["cupy"].cuda, "Device", no_driver)
    with pytest.raises(SystemExit, match="error: CuPy 0 cannot use the GPU: cudaErrorInsufficientDriver"):
        check_gpu.main([])


def test_a_fallback_to_the_host_is_no_success(monkeypatch):
    """This build of MXNet has no compiler of kernels: comparing the host with itself would prove nothing."""
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 1)
    monkeypatch.setattr(check_gpu, "report_devices", lambda: None)
    rtc._tell_fallback.cache_clear()
    with pytest.warns(UserWarning, match="run on the host"), pytest.raises(SystemExit, match=r"do not run on gpu\(0\)"):
        check_gpu.main(["--mxnet"])


def test_mxnets_devices(capsys):
    check_gpu.check_with_mxnet([mx.cpu(0), mx.cpu(1)])
    assert capsys.readouterr().out.count("limit") == 10


def test_a_step_that_differs_is_told(monkeypatch):
    monkeypatch.setattr(
        check_gpu, "training_step", lambda contexts, *_: {"weight": np.full(3, 1 + 1e-4 * (len(contexts) - 1))}
    )
    with pytest.raises(check_gpu.CheckError, match="a step over two devices differ"):
        check_gpu.check_with_mxnet([mx.cpu(0), mx.cpu(1)])
