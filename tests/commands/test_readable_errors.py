"""How commands end where MXNet cannot go on."""

from __future__ import annotations

import re

import cv2
import mxnet as mx
import numpy as np
import pytest

from aploss_mx.commands.errors import readable_errors


@pytest.mark.parametrize(
    "reason",
    [
        "MXNetError: cudaMalloc retry failed: out of memory",
        "Check failed: e == CUDNN_STATUS_SUCCESS (2 vs. 0) : cuDNN: CUDNN_STATUS_ALLOC_FAILED",
        "MXNetError: Failed to allocate CPU Memory",
    ],
)
def test_what_needs_less_memory_is_told(reason):
    told = f"error: {re.escape(reason)}; .*--batch-size.*--test-short"
    with pytest.raises(SystemExit, match=told), readable_errors():
        raise mx.MXNetError(f"Traceback (most recent call last):\n  File storage.cc\n{reason}")


def resize(side: int) -> None:
    cv2.resize(np.zeros((9, 9), np.uint8), (side, side))


def refuse() -> None:
    raise MemoryError  # as Python does, without a word


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda: np.empty(1 << 59), "Unable to allocate"),
        (lambda: resize(1 << 30), "Insufficient memory"),
        (refuse, "out of memory"),
    ],
)
def test_so_it_is_where_numpy_and_opencv_want_it(work, reason):
    with pytest.raises(SystemExit, match=f"error: .*{reason}.*; .*--batch-size.*--test-short"), readable_errors():
        work()


def test_other_errors_of_opencv_are_faults_of_ours():
    with pytest.raises(cv2.error, match="Assertion failed"), readable_errors():
        resize(0)


def test_the_error_of_an_operator_in_python_stands_above(capsys):
    logits, class_targets = mx.nd.zeros((1, 2, 3)), mx.nd.array([[4, 0]])  # of classes 1 to 3
    told = "error: an operator in Python failed, for the reason that is printed above"
    with pytest.raises(SystemExit, match=told), readable_errors():
        mx.nd.Custom(logits, class_targets, op_type="aploss")[0].asnumpy()
    assert "-1 … 3" in capsys.readouterr().out


def test_errors_of_other_operators_are_not_left_to_the_programs_end():
    arrays = [mx.nd.random.normal(0, -1, (2,)) for _ in range(2)]  # of a deviation below 0
    with pytest.raises(SystemExit, match="error: "), readable_errors():
        arrays[0].asnumpy()
    mx.nd.waitall()
