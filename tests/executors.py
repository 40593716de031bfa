"""Executors of symbols, kept until the tests end."""

from __future__ import annotations

import mxnet as mx
from contexts import device

_KEPT: list[mx.executor.Executor] = []


def bind(symbol: mx.sym.Symbol, **arguments) -> mx.executor.Executor:
    """Bind `symbol` on the device that is tested.

    On the fake GPU, MXNet 1.9.1 sometimes crashed where an executor with a custom operator went as soon as its result
    was read, and neither with executors that are kept nor without a custom operator.
    """
    executor = symbol.simple_bind(device(), **arguments)
    _KEPT.append(executor)
    return executor
