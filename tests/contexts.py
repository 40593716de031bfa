"""The devices that tests run on: the CPU, or GPUs where APLOSS_MX_TEST_DEVICE=gpu, as `make test-gpu` says."""

from __future__ import annotations

import os

import mxnet as mx

KIND = os.environ.get("APLOSS_MX_TEST_DEVICE", "cpu")


def device(number: int = 0) -> mx.Context:
    """Return the device of that number; tests that need two take 0 and 1."""
    return mx.Context(KIND, number)
