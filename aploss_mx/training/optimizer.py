"""Update a network's parameters, and keep what the optimizer remembers in checkpoints."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from aploss_mx.checkpoint import CheckpointError, named_parameters
from aploss_mx.config import Recipe
from symbols.retinanet import RetinaNet


def optimizer_states(trainer: mx.gluon.Trainer, network: RetinaNet) -> dict[str, list[np.ndarray]]:
    """Return the optimizer's state arrays by parameter name; all devices hold the same."""
    updater = trainer._updaters[0]
    states = {}
    for index, (name, _) in enumerate(named_parameters(network)):
        state = updater.states.get(index)
        if state is not None:
            states[name] = [array.asnumpy() for array in (state if isinstance(state, tuple) else (state,))]
    return states


def restore_optimizer(
    trainer: mx.gluon.Trainer, network: RetinaNet, states: dict[str, list[np.ndarray]], updates: int
) -> None:
    """Put state arrays back on all devices and let the optimizer count on from `updates`.

    Raises
    ------
    CheckpointError
        If there are states, but not of all parameters that learn.
    """
    learning = {name for name, param in named_parameters(network) if param.grad_req != "null"}
    if states and learning - set(states):
        raise CheckpointError(f"the checkpoint lacks the optimizer's state of {min(learning - set(states))}")
    trainer._optimizer.begin_num_update = trainer._optimizer.num_update = updates
    for index, (name, param) in enumerate(named_parameters(network)):
        if name not in states:
            continue
        for updater, ctx in zip(trainer._updaters, param.list_ctx()):
            arrays = tuple(mx.nd.array(array, ctx=ctx) for array in states[name])
            updater.states[index] = arrays if len(arrays) > 1 else arrays[0]
            updater.states_synced[index] = True


def make_trainer(network: RetinaNet, recipe: Recipe, kv_store: str | mx.kv.KVStore) -> mx.gluon.Trainer:
    """Return the trainer of a recipe; its parameters are numbered in the order of their structural names."""
    arguments = {"learning_rate": recipe.lr, "wd": recipe.wd}
    if recipe.optimizer == "sgd":
        arguments["momentum"] = recipe.momentum
    for param in network.backbone.collect_params().values():
        param.lr_mult = recipe.backbone_lr_mult
    params = [param for _, param in named_parameters(network)]
    return mx.gluon.Trainer(params, recipe.optimizer, arguments, kvstore=kv_store, update_on_kvstore=False)
