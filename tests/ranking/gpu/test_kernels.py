"""The GPU kernels: their own source, run on the CPU as C++, against exact.py, and compiled by CUDA's compiler."""

from __future__ import annotations

import ctypes
import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from emulated_gpu import EmulatedGPU, build
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_costs import costs_of

from aploss_mx.ranking.exact import Objective, ap_loss, auc_loss
from aploss_mx.ranking.gpu import launches
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, MAX_SCORES, THREADS, read_kernels, read_source, solve_group
from aploss_mx.ranking.problem import solve_anchors

METHODS = {
    Objective.AP: lambda delta: ap_loss(delta, False),
    Objective.INTERPOLATED_AP: ap_loss,
    Objective.AUC: auc_loss,
}


def run(kernels, logits, class_targets, method, delta=1.0, weight=1.0, backwards=False):
    """Loss and gradient by the kernels, of one group of images."""
    # The gradient's place in memory is that of the logits, which may be a part of a batch's.
    start = logits.ctypes.data % 16 // 4
    loss = np.zeros(1, np.float32)
    grad = np.full(logits.size + 8, 7, np.float32)
    grad = grad[(start - grad.ctypes.data % 16 // 4) % 4 :][: logits.size].reshape(logits.shape)
    shape = (class_targets.size, logits.shape[-1])
    solve_group(
        EmulatedGPU(kernels, backwards), logits, class_targets.astype(np.float32), shape, method, delta, weight, loss,
        grad,
    )  # fmt: skip
    return loss[0], grad


def assert_as_exact(kernels, logits, class_targets, method, delta=1.0):
    """Within float32 rounding of loss and gradient, and the same bits whichever thread comes first."""
    expected_loss, expected_grad = solve_anchors(METHODS[method](delta), logits, class_targets)
    loss, grad = run(kernels, logits, class_targets, method, delta)
    assert loss == pytest.approx(expected_loss, rel=1e-6, abs=1e-12)
    distance = np.abs(grad - expected_grad).sum(dtype=np.float64)
    assert distance <= 1e-6 * np.abs(expected_grad).sum(dtype=np.float64) + 1e-12
    backwards = run(kernels, logits, class_targets, method, delta, backwards=True)
    assert loss.tobytes() == backwards[0].tobytes()
    assert grad.tobytes() == backwards[1].tobytes()


def random_batch(shape, positives):
    """Logits and class targets with five ignored anchors."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1, shape).astype(np.float32)
    class_targets = np.zeros(shape[:2], np.int64)
    rows = rng.permutation(class_targets.size)
    class_targets.flat[rows[:positives]] = rng.integers(1, shape[2] + 1, positives)
    class_targets.flat[rows[positives : positives + 5]] = -1
    return logits, class_targets


@st.composite
def batches(draw):
    """Small batches with many ties, and scores near and far."""
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 4)))
    near = st.integers(-6, 6).map(lambda number: number / 2)
    any_size = st.floats(-(2.0**100), 2.0**100, width=32)
    logits = draw(hnp.arrays(np.float32, shape, elements=near | st.floats(-5, 5, width=32) | any_size))
    class_targets = draw(hnp.arrays(np.int64, shape[:2], elements=st.integers(-1, shape[2])))
    return logits, class_targets


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=80)
@given(batch=batches(), delta=st.sampled_from([1e-17, 1e-15, 1e-6, 0.5, 1.0, 3.0, 1e6]))
def test_small_batches(kernels, method, batch, delta):
    assert_as_exact(kernels, *batch, method, delta)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("shape", "positives"),
    [
        ((2, 500, 3), 20),
        ((1, 333, 7), 40),  # not a multiple of four scores
        ((1, 400, 3), THREADS),  # one whole run
        ((1, 1200, 2), 3 * THREADS + 5),  # merged runs, one without a partner
        ((2, 700, 4), 1100),  # more breakpoints than a block's shared memory takes
        ((1, 300, 1), 290),
    ],
)
@pytest.mark.parametrize("delta", [0.01, 1.0])
def test_sizes(kernels, method, shape, positives, delta):
    assert_as_exact(kernels, *random_batch(shape, positives), method, delta)


@pytest.mark.parametrize("method", METHODS)
def test_many_equal_scores(kernels, method):
    logits, class_targets = random_batch((2, 600, 4), 300)
    assert_as_exact(kernels, np.rint(logits), class_targets, method)
    assert_as_exact(kernels, np.zeros_like(logits), class_targets, method)


def test_more_blocks_than_fit_take_turns(kernels, monkeypatch):
    monkeypatch.setattr(launches, "STREAM_BLOCKS", 2)
    assert_as_exact(kernels, *random_batch((2, 3000, 3), 50), Objective.INTERPOLATED_AP)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_groups_that_start_anywhere_in_memory(kernels, offset):
    """A group of images is a part of the batch's array, and its scores need not start at a multiple of 16 bytes."""
    logits, class_targets = random_batch((1, 257, 5), 30)
    memory = np.zeros(logits.size + 8, np.float32)
    part = memory[offset : offset + logits.size].reshape(logits.shape)
    part[:] = logits
    assert_as_exact(kernels, part, class_targets, Objective.INTERPOLATED_AP)


def test_without_a_positive(kernels):
    logits, class_targets = random_batch((1, 40, 3), 0)
    loss, grad = run(kernels, logits, class_targets, Objective.AP)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("positives", [0, 5])
@pytest.mark.parametrize("kind", ["negative", "positive", "ignored"])
def test_scores_that_are_not_finite(kernels, value, positives, kind):
    logits, class_targets = random_batch((1, 40, 3), positives)
    anchors = {"negative": class_targets == 0, "positive": class_targets > 0, "ignored": class_targets < 0}[kind]
    if not anchors.any():
        return
    image, anchor = np.argwhere(anchors)[0]
    logits[image, anchor, max(0, class_targets[image, anchor] - 1)] = value
    expected_loss, expected_grad = solve_anchors(ap_loss(1.0), logits, class_targets)
    loss, grad = run(kernels, logits, class_targets, Objective.INTERPOLATED_AP)
    np.testing.assert_allclose([loss], [expected_loss], rtol=1e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-9)
    assert np.isnan(loss) == (kind != "ignored")


def test_weight_and_sum_of_groups(kernels):
    device, loss, grads = EmulatedGPU(kernels), np.zeros(1, np.float32), []
    logits, class_targets = random_batch((4, 100, 3), 40)
    for group in (slice(0, 2), slice(2, 4)):
        grads.append(np.empty_like(logits[group]))
        targets = class_targets[group].astype(np.float32)
        solve_group(device, logits[group], targets, (200, 3), Objective.AP, 1.0, 0.5, loss, grads[-1])
    expected_loss, expected_grad = solve_anchors(ap_loss(1.0, False), logits, class_targets, ranking_batch=2)
    assert loss[0] == pytest.approx(expected_loss, rel=1e-6)
    np.testing.assert_allclose(np.concatenate(grads), expected_grad, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("target", [-2, 4, 0.5, np.nan, np.inf])
def test_targets_that_are_no_class_are_told(kernels, target):
    logits, class_targets = random_batch((1, 40, 3), 5)
    class_targets = class_targets.astype(np.float32)
    class_targets[0, 7] = target
    with pytest.raises(ValueError, match=r"whole numbers of -1 … 3, and 1 are not"):
        run(kernels, logits, class_targets, Objective.AP)


def test_more_scores_than_can_be_numbered_are_told(kernels):
    with pytest.raises(ValueError, match="rank fewer images together"):
        solve_group(EmulatedGPU(kernels), None, None, (MAX_SCORES // 80 + 1, 80), Objective.AP, 1.0, 1.0, None, None)


# The device that plays the GPU -------------------------------------------------------------------


@pytest.mark.parametrize("written", ["the same", "a part of the same"])
def test_an_array_that_a_launch_reads_and_writes_is_refused(kernels, written):
    device = EmulatedGPU(kernels)
    scores, counters, places = (device.zeros(8, dtype) for dtype in ("float32", "int32", "int32"))
    scores_written = scores if written == "the same" else scores[4:]
    with pytest.raises(AssertionError, match="logits and scores are one array"):
        device.launch("find_positives", 1, scores, device.zeros(1, "float32"), 0, 1, counters, places, scores_written)


def test_a_launch_of_no_blocks_is_refused(kernels):
    device = EmulatedGPU(kernels)
    positives, loss = (device.zeros(0, kind) for kind in ("int32", "float64")), device.zeros(1, "float32")
    with pytest.raises(AssertionError, match="write_positives: a launch of no blocks"):
        device.launch("write_positives", 0, 0, 1.0, *positives, device.zeros(4, "int32"), loss)


ALIGNED = "((unsigned long long)({} + first) & 15) == 0"
UNALIGNED = "16 bytes that do not begin at a multiple of 16"
FAULTS = {
    "alignment check left out": (ALIGNED.format("scores"), "true", UNALIGNED),
    "alignment check left out of the gradient": (ALIGNED.format("gradient"), "true", UNALIGNED),
    "a missing wait before a read": (
        "    totals[own] = total;\n    __syncthreads();\n", "    totals[own] = total;\n", "gradients differ",
    ),
    "arguments swapped": (
        "int64_t *counts, const int64_t *sums, int64_t *own", "int64_t *sums, const int64_t *counts, int64_t *own",
        "gradients differ",
    ),
    "a barrier for some": ("    if (!with_any) return;\n", "    if (!batch.count) return;\n", "at different places"),
}  # fmt: skip


@pytest.mark.slow  # each compiles all kernels
@pytest.mark.parametrize(("text", "planted", "told"), FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_caught(tmp_path, text, planted, told):
    source = read_source()
    assert source.count(text) == 1
    file = tmp_path / "kernels.cu"
    file.write_text(source.replace(text, planted), encoding="utf-8")
    memory = np.zeros(2 * 400 * 3 + 1, np.float32)
    logits, class_targets = random_batch((2, 400, 3), 100)
    logits, memory[1:] = memory[1:].reshape(logits.shape), logits.ravel()
    expected_loss, expected_grad = solve_anchors(ap_loss(), logits, class_targets)
    library, objective = build(tmp_path, file), Objective.INTERPOLATED_AP
    with pytest.raises(AssertionError, match=told):
        for backwards in (False, True):
            loss, grad = run(library, logits, class_targets, objective, backwards=backwards)
            assert loss == pytest.approx(expected_loss, rel=1e-6), "gradients differ"
            assert np.abs(grad - expected_grad).sum() <= 1e-6 * np.abs(expected_grad).sum(), "gradients differ"


def test_scores_of_one_bin_hardly_meet(tmp_path):
    """Early in training nearly all scores fall between the same two breakpoints."""
    costs = costs_of(build(tmp_path, counting=True), "small", "early")
    assert 0 < costs["shared atomics"] <= 0.05
    assert costs["waiting lanes"] <= 0.01


# CUDA's own compiler -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nvrtc():
    """The runtime compiler of CUDA 11, which MXNet's GPU build loads."""
    package = find_spec("nvidia.cuda_nvrtc")
    if package is None:
        if os.environ.get("CI"):
            pytest.fail("nvidia-cuda-nvrtc-cu11 is missing, and under CI nothing that needs it may skip")
        pytest.skip("needs nvidia-cuda-nvrtc-cu11")
    (file,) = Path(package.submodule_search_locations[0], "lib").glob("libnvrtc.so.*")
    return ctypes.CDLL(str(file))


@pytest.mark.parametrize(
    "version", [50, *(pytest.param(version, marks=pytest.mark.slow) for version in (52, 60, 70, 75, 80, 86)), 89]
)
def test_the_runtime_compiler_takes_the_source(nvrtc, version):
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), read_source().encode(), b"kernels.cu", 0, None, None) == 0
    options = [option.encode() for option in (f"--gpu-architecture=compute_{version}", *COMPILER_OPTIONS)]
    arguments = program, len(options), (ctypes.c_char_p * len(options))(*options)
    with ThreadPoolExecutor(1) as thread:  # of its own, since NVRTC leaves its thread in the C locale, of ASCII
        status = thread.submit(nvrtc.nvrtcCompileProgram, *arguments).result()
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert "warning" not in log.value.decode()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    for name in read_kernels():
        assert f".entry {name}(".encode() in ptx.value
    # No sums of floating-point numbers in whatever order threads come.
    assert b"atom." in ptx.value
    assert not re.search(rb"\b(atom|red)\.\S*\.f(16|32|64)\b", ptx.value)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
