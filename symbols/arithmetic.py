"""How much a network computes."""

from __future__ import annotations

import json
import math
from typing import Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock


def multiply_adds(network: HybridBlock, shape: Sequence[int]) -> int:
    """Return the multiply-adds that a network's convolutions and dense layers take for one input.

    Parameters
    ----------
    network : HybridBlock
        Of one input, and with one output or several.
    shape : sequence of int
        Of the input, its batch included.

    Returns
    -------
    int
        Those of the forward pass; gradients of weights and inputs take about as many each.
    """
    outputs = network(mx.sym.var("data"))
    graph = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    inside = graph.get_internals()
    _, shapes, _ = inside.infer_shape(data=tuple(shape))
    outputs = list(zip(inside.list_outputs(), shapes))
    shape_of = dict(outputs)
    nodes = json.loads(graph.tojson())["nodes"]
    weights = {
        f"{node['name']}_output": nodes[node["inputs"][1][0]]["name"]
        for node in nodes
        if node["op"] in ("Convolution", "FullyConnected")
    }
    # A layer that several inputs share stands there as often, under one name.
    return sum(math.prod(out) * math.prod(shape_of[weights[name]][1:]) for name, out in outputs if name in weights)
