"""Executors of symbols, kept until the tests end."""

from __future__ import annotations

import mxnet as mx
from contexts import device

_KEPT: list[mx.executor.Executor] = []


def bind(symbol: mx.sym.Symbol, **arguments) -> mx.executor.Executor:
    """Bind `symbol` on the device that is tested.

    MXNet 1.9.1 may crash on a GPU where an executor goes right after the last of its operators, if that is a custom
    one: the engine's thread may still be on its way out of it.
    """
    executor = symbol.simple_bind(device(), **arguments)
    _KEPT.append(executor)
    return executor
