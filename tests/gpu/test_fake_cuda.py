"""The fake CUDA libraries are strict: what CUDA forbids ends a program and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.environ.get("APLOSS_MX_TEST_CUDA") != "fake", reason="of the fake libraries")

# Two devices of the runtime without MXNet: a stream each, and an array of 100 bytes each.
RUNTIME = """
import ctypes
cuda = ctypes.CDLL("libcudart.so.11.0")
cuda.cudaMalloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
cuda.cudaFree.argtypes = cuda.cudaStreamSynchronize.argtypes = [ctypes.c_void_p]
cuda.cudaMemsetAsync.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p]
cuda.cudaMemcpyAsync.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
streams, arrays = [], []
for device in (0, 1):
    cuda.cudaSetDevice(device)
    stream, array = ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cudaStreamCreate(ctypes.byref(stream)) == cuda.cudaMalloc(ctypes.byref(array), 100) == 0
    streams.append(stream), arrays.append(array)
cuda.cudaSetDevice(0)
host = ctypes.create_string_buffer(100)
def fill(array, size=100, stream=streams[0]):
    cuda.cudaMemsetAsync(array, 7, size, stream)
    cuda.cudaStreamSynchronize(stream)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("fill(arrays[1])", "device 0 is given memory of device 1"),
        ("fill(host)", "device 0 is given memory of the host"),
        ("fill(arrays[0], stream=streams[1])", "device 0 is given work in a stream of device 1"),
        ("fill(arrays[0], 101)", "is to use 101 bytes, 0 after the begin of an array of 100"),
        ("cuda.cudaFree(arrays[0]); fill(arrays[0])", "memory that it has freed"),
        ("cuda.cudaFree(arrays[0]); cuda.cudaFree(arrays[0])", "freed twice"),
        ("cuda.cudaMemcpyAsync(host, arrays[0], 100, 1, streams[0])", "a copy of kind 1 from a device to the host"),
    ],
)
def test_what_cuda_forbids_ends_the_program(code, told):
    done = run(RUNTIME + code)
    assert done.returncode != 0
    assert told in done.stderr


def test_memory_is_the_devices_and_new_memory_is_nan():
    code = "cuda.cudaMemcpyAsync(host, arrays[0], 100, 2, streams[0]); assert host.raw == b'\\xff' * 100"
    done = run(RUNTIME + code + "\nprint('new', flush=True); ctypes.string_at(arrays[0].value, 1)")
    assert done.stdout == "new\n"
    assert done.returncode < 0  # by a signal


def test_work_waits_until_it_is_waited_for():
    """A read that does not wait finds what was there before."""
    code = """
pinned = ctypes.c_void_p()
cuda.cudaHostAlloc(ctypes.byref(pinned), ctypes.c_size_t(100), 0)
cuda.cudaMemsetAsync(arrays[0], 7, 100, streams[0])
cuda.cudaMemcpyAsync(pinned, arrays[0], 100, 2, streams[0])
assert ctypes.string_at(pinned.value, 100) == b'\\xff' * 100
cuda.cudaStreamSynchronize(streams[0])
assert ctypes.string_at(pinned.value, 100) == b'\\x07' * 100
"""
    done = run(RUNTIME + code)
    assert done.returncode == 0, done.stderr


def test_a_copy_may_wait_in_a_stream_of_another_device():
    """As CUDA's programming guide has it. MXNet's copying threads change their device when they delete an array."""
    code = """
fill(arrays[0])
cuda.cudaSetDevice(1)
cuda.cudaMemcpyAsync(host, arrays[0], 100, 2, streams[0])
cuda.cudaStreamSynchronize(streams[0])
assert host.raw == b'\\x07' * 100
"""
    done = run(RUNTIME + code)
    assert done.returncode == 0, done.stderr


def test_a_kernel_that_is_not_there_is_named():
    done = run("import aploss_mx, mxnet as mx; mx.nd.arcsinh(mx.nd.ones((2,), mx.gpu(0))).asnumpy()")
    assert done.returncode != 0
    assert "has no kernel void mxnet::op::" in done.stderr
    assert "arcsinh" in done.stderr


def test_a_function_that_is_not_there_is_named():
    done = run("import aploss_mx, mxnet as mx; mx.nd.random.uniform(shape=(2,), ctx=mx.gpu(0)).asnumpy()")
    assert done.returncode != 0
    assert "tests/gpu/fake_cuda has no" in done.stderr


def test_an_array_that_a_launch_reads_and_writes_is_refused():
    """By two names, so that MXNet's engine does not wait for itself."""
    code = """
import aploss_mx, mxnet as mx
from aploss_mx.ranking.gpu.rtc import MXNetGPU
device = MXNetGPU(mx.gpu(0))
counters, places, scores = device.zeros(4, "int32"), device.zeros(1, "int32"), device.zeros(1, "float32")
same = mx.nd.from_dlpack(mx.nd.to_dlpack_for_read(scores))
device.launch("find_positives", 1, scores, device.zeros(1, "float32"), 0, 1, counters, places, same)
device.read(counters)
"""
    done = run(code)
    assert done.returncode != 0
    assert "find_positives: arguments 0 and 6 are one array" in done.stderr


@pytest.mark.parametrize(
    ("logits", "loss", "gradient"), [(0, 1, 0), (0, 0, 1), (1, 0, 0)], ids=["loss", "gradient", "logits"]
)
def test_an_array_of_another_device_is_refused(logits, loss, gradient):
    """Of the loss, say, written on device 1, or a gradient of device 0's from the logits of device 1."""
    code = f"""
import aploss_mx, mxnet as mx
from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.gpu import rtc
logits, loss, gradient = mx.gpu({logits}), mx.gpu({loss}), mx.gpu({gradient})
arrays = mx.nd.ones((1, 2, 1), logits), mx.nd.array([[0, 1]], mx.gpu(0))
loss, gradient = mx.nd.zeros((1,), loss), mx.nd.zeros((1, 2, 1), gradient)
rtc.solve_anchors(ap_loss(), mx.gpu(0), *arrays, 0, loss, gradient)
mx.nd.waitall()
"""
    done = run(code)
    assert done.returncode != 0
    assert "device 0 is given memory of device 1" in done.stderr


def test_two_gpus_are_there_and_their_arrays_are_their_own():
    assert mx.context.num_gpus() == 2
    arrays = [mx.nd.full((3, 5), number, mx.gpu(number)) for number in range(2)]
    np.testing.assert_array_equal((arrays[0].as_in_context(mx.gpu(1)) - arrays[1]).asnumpy(), -np.ones((3, 5)))
