"""How commands end where MXNet cannot go on."""

from __future__ import annotations

import re

import mxnet as mx
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
