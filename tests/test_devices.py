"""Flags become contexts, or a message that says what is wrong with them."""

from __future__ import annotations

import mxnet as mx
import pytest

from aploss_mx import cuda
from aploss_mx.devices import parse_devices


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)


@pytest.mark.parametrize(("cpus", "ids"), [(1, [0]), (3, [0, 1, 2])])
def test_cpus(cpus, ids):
    assert parse_devices(cpus=cpus) == [mx.cpu(number) for number in ids]


@pytest.mark.parametrize("cpus", [0, -1])
def test_fewer_cpus_than_one_are_refused(cpus):
    with pytest.raises(ValueError, match=f"--cpus must be at least 1, not {cpus}"):
        parse_devices("", cpus)


@pytest.mark.parametrize(("gpus", "ids"), [("0", [0]), ("0,1", [0, 1]), ("1,0", [1, 0]), (" 0, 1", [0, 1])])
def test_gpus_in_the_order_given_win_over_cpus(two_gpus, gpus, ids):
    assert parse_devices(gpus, cpus=4) == [mx.gpu(number) for number in ids]


@pytest.mark.parametrize("gpus", ["2", "0,2", "-1"])
def test_gpus_that_are_not_there_are_refused(two_gpus, gpus):
    with pytest.raises(ValueError, match=rf"--gpus {gpus}: .* sees 2 GPU\(s\)"):
        parse_devices(gpus)


def test_gpus_that_mxnet_has_no_code_for_are_refused(two_gpus, monkeypatch):
    gpus = [cuda.GPU(0, "RTX 3090", (8, 6)), cuda.GPU(1, "H100", (9, 0))]
    monkeypatch.setattr(cuda.metadata, "distribution", lambda name: None)
    monkeypatch.setattr(cuda, "find_gpus", lambda: gpus)
    with pytest.raises(ValueError, match=r"--gpus 0,1: gpu\(1\): mxnet-cu112 1\.9\.1 has no code for .* 9\.0 \(Hopper"):
        parse_devices("0,1")
    assert parse_devices("0") == [mx.gpu(0)]


def test_twice_the_same_gpu_is_refused(two_gpus):
    with pytest.raises(ValueError, match="--gpus 0,1,0 names a GPU twice"):
        parse_devices("0,1,0")


@pytest.mark.parametrize("gpus", ["all", "0,", "0;1", "0.5", ","])
def test_what_is_no_list_of_ids_is_refused(gpus):
    with pytest.raises(ValueError, match=f"--gpus takes ids joined by commas, such as 0,1, not '{gpus}'"):
        parse_devices(gpus)


def test_driver_that_fails_counts_as_no_gpu(monkeypatch):
    def fail():
        raise mx.MXNetError("CUDA: no driver")

    monkeypatch.setattr(mx.context, "num_gpus", fail)
    with pytest.raises(ValueError, match=r"sees 0 GPU\(s\) here; GPUs need the mxnet-cu112 build"):
        parse_devices("0")
    assert parse_devices() == [mx.cpu(0)]
