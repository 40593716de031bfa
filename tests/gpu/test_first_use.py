"""What a user of a GPU sees at first: kernels that run, the reason if not, and no silence that lasts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from tiny_training import running

from aploss_mx.commands import check_gpu
from aploss_mx.losses import APLoss, SmoothAPLoss
from aploss_mx.ranking.gpu import rtc

ROOT = Path(__file__).resolve().parents[2]
RANK = """
import aploss_mx, mxnet as mx
from aploss_mx.losses import APLoss
from aploss_mx.ranking.gpu import rtc
rtc.PATIENCE_SECONDS = {patience}
print(APLoss()(mx.nd.array([[[0.5], [0]]], mx.gpu(0)), mx.nd.array([[0, 1]], mx.gpu(0))).asscalar(), flush=True)
"""
LOSS = 0.75 / 1.75
fake_only = pytest.mark.skipif(os.environ.get("APLOSS_MX_TEST_CUDA") != "fake", reason="a fake GPU can be told to fail")


def rank(**environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", RANK.format(patience=60)], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_it_answers_within_a_minute():
    """As it did not where the first launch read and wrote one array."""
    done = rank()
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(LOSS)
    assert "UserWarning" not in done.stderr


def test_both_gpus_have_the_kernels():
    assert all(rtc.is_available(mx.gpu(number)) for number in range(2))


@fake_only
def test_a_gpu_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_HANG", "bin_scores")
    with running([sys.executable, "-c", RANK.format(patience=1)]) as process:
        told = process.stderr.readline()
        while told and "has not answered" not in told:
            told = process.stderr.readline()
        assert "gpu(0) has not answered for 1 s" in told
        assert "APLOSS_MX_GPU_KERNELS=0" in told
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)


def test_the_switch_ranks_on_the_host_and_says_so():
    done = rank(APLOSS_MX_GPU_KERNELS="0", FAKE_CUDA_HANG="bin_scores")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(LOSS)
    assert done.stderr.count("ranking losses run on the host, since APLOSS_MX_GPU_KERNELS=0 says so") == 1


@fake_only
def test_kernels_that_do_not_load_are_told_and_the_host_ranks():
    """Without libkernels the driver finds no function; the array operators run."""
    done = rank(FAKE_CUDA_NO_MODULES="1")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(LOSS)
    assert "ranking losses run on the host, since mx.rtc cannot run their kernels on gpu(0)" in done.stderr


@fake_only
@pytest.mark.parametrize("version", ["11070", "11020"])
def test_kernels_that_the_driver_does_not_take_are_told_and_the_host_ranks(version):
    done = rank(FAKE_CUDA_DRIVER=version)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(LOSS)
    assert re.search(r"since mx.rtc cannot run their kernels on gpu\(0\) .*unsupported toolchain", done.stderr)


@fake_only
def test_kernels_run_on_gpus_of_any_age_together():
    """The faster GPU is number 0; MXNet would compile for it alone."""
    code = """
import aploss_mx, mxnet as mx
from aploss_mx.ranking.gpu import rtc
print([rtc.is_available(mx.gpu(number)) for number in (0, 1)])
"""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE_CUDA_CAPABILITY": "86,50"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[True, True]\n", done.stderr


@fake_only
def test_check_gpu_tells_of_a_driver_older_than_the_compiler(monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DRIVER", "11070")
    with pytest.raises(SystemExit, match=r"the driver is of CUDA 11\.7, .* wants one of 11\.8 or newer"):
        check_gpu.main(["--mxnet"])


def test_check_gpu_passes_from_top_to_bottom(capsys):
    check_gpu.main(["--mxnet"])
    first, *_, last = printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"gpu\(0\): .+, compute capability \d+\.\d", first)
    assert re.fullmatch(r"MXNet 1\.9\.1, driver for CUDA \d+\.\d, CUDA 11\.\d, cuDNN 8\.\d+\.\d+", printed[2])
    assert printed[3].startswith("APLoss on gpu(0): losses: ")
    assert any(line.startswith("a step over two devices: ") for line in printed)
    assert last == "all is well"


@fake_only
def test_check_gpu_tells_of_a_gpu_that_mxnet_has_no_code_for(monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CUDA_CAPABILITY", "90")
    with pytest.raises(
        SystemExit, match=r"gpu\(0\): mxnet-cu112 1\.9\.1 has no code for compute capability 9\.0 \(Hopper"
    ):
        check_gpu.main(["--mxnet"])
    assert "gpu(1): fake GPU, compute capability 9.0" in capsys.readouterr().out


def test_each_reason_is_told_once():
    logits = mx.nd.array(np.random.default_rng(0).normal(size=(1, 20, 2)))
    targets = mx.nd.array([[-1, *range(3)] * 5])
    rtc._tell_fallback.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            for loss in (APLoss(), APLoss(ranking_scope="class"), SmoothAPLoss()):
                loss(logits, targets).wait_to_read()
            APLoss()(logits.astype("float16"), targets).wait_to_read()
    messages = sorted(str(one.message) for one in told if "ranking losses" in str(one.message))
    assert [message.split("since ")[1] for message in messages] == [
        "only AP-loss and AUC-loss have kernels",
        "there are no kernels for logits of float16",
        "there are no kernels for rankings by class",
    ]


def test_a_wrong_target_is_an_error_and_the_device_goes_on():
    logits = mx.nd.array(np.random.default_rng(0).normal(size=(1, 20, 2)))
    with pytest.raises(mx.MXNetError):
        APLoss()(logits, mx.nd.full((1, 20), 7)).asnumpy()
    logits.attach_grad()
    with autograd.record():
        loss = APLoss()(logits, mx.nd.array([[0, 1] * 10]))
    loss.backward()
    assert 0 < loss.asscalar() < 1
    assert logits.grad.asnumpy().any()
