"""A step over several devices against the same step written out in plain Gluon and NumPy."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from tiny_training import assert_same_arrays, tiny_run

from aploss_mx.checkpoint import parameters_of
from aploss_mx.losses import APLoss, BoxLoss
from aploss_mx.training.optimizer import make_trainer, optimizer_states
from symbols.retinanet import RetinaNet

RATES = (0.05, 0.02)  # so large that steps stand out from the rounding of the weights
EPSILON = np.finfo(np.float32).eps


@pytest.fixture
def make_run(shapes, tmp_path):
    """Return a run on 1 or 2 CPU devices, and its first batch; a large weight decay makes it count."""

    def make(cpus, kv_store="device"):
        run = tiny_run(shapes, tmp_path, cpus=cpus, wd=0.01)
        run.trainer = make_trainer(run.network, run.recipe, kv_store)
        return run, next(iter(run.loader))

    return make


def weights_of(network):
    """Everything that is trained, by name: not the statistics of BatchNorm."""
    trained = {name for name, param in network._collect_params_with_prefix().items() if param.grad_req != "null"}
    return {name: array for name, array in parameters_of(network).items() if name in trained}


def plain_losses_and_gradients(run, parts):
    """Losses (parts, 2) and the gradient of their mean, on one device, from a copy of the run's network."""
    network = RetinaNet(run.recipe.network, len(run.classes), run.recipe.channels)
    network.initialize()
    parameters = network._collect_params_with_prefix()
    for name, array in parameters_of(run.network).items():
        parameters[name].set_data(mx.nd.array(array))
    class_loss, box_loss = APLoss(), BoxLoss()
    losses = []
    with autograd.record():
        for images, class_targets, box_targets in parts:
            logits, deltas = network(images)
            losses.append([class_loss(logits, class_targets), box_loss(deltas, box_targets, class_targets)])
        total = sum(one + other for one, other in losses) / len(parts)
    total.backward()
    values = np.array([[loss.asscalar() for loss in pair] for pair in losses])
    return values, {name: parameters[name].grad().asnumpy() for name in weights_of(network)}


def split(batch, count):
    size = len(batch[0]) // count
    return [[array[size * part : size * (part + 1)] for array in batch] for part in range(count)]


@pytest.mark.parametrize("cpus, kv_store", [(1, "device"), (2, "device"), (2, "local")])
def test_steps_are_those_of_sgd_on_the_mean_of_the_devices_losses(make_run, cpus, kv_store):
    run, batch = make_run(cpus, kv_store)
    parts = split(batch, cpus)
    assert all((class_targets.asnumpy() > 0).any() for _, class_targets, _ in parts)
    velocity = dict.fromkeys(weights_of(run.network), 0)
    differences = {}
    for number, rate in enumerate(RATES):
        before = weights_of(run.network)
        losses, gradients = plain_losses_and_gradients(run, parts)
        np.testing.assert_allclose(run.update(batch, rate), losses.mean(axis=0), rtol=1e-6)

        after, states = weights_of(run.network), optimizer_states(run.trainer, run.network)
        assert after.keys() == before.keys() == gradients.keys() == states.keys()
        for name, weight in before.items():
            velocity[name] = run.recipe.momentum * velocity[name] - rate * (gradients[name] + run.recipe.wd * weight)
            scale = np.abs(velocity[name]).max()
            assert scale > 0, name
            # The optimizer's own velocity is the step before rounding it into the weight.
            differences[number, name] = np.abs(states[name][0] - velocity[name]).max() / scale
            rounding = EPSILON * np.abs(weight).max()
            assert np.abs(after[name] - weight - velocity[name]).max() <= 1e-6 * scale + rounding, name
    worst = max(differences, key=differences.get)
    print(f"largest difference of a step, relative to its scale: {differences[worst]:.1e} (step, parameter: {worst})")
    assert differences[worst] <= 1e-6


@pytest.mark.parametrize(
    ("settings", "background"),
    [({}, None), ({}, 0), ({}, 1), ({"delta": 0.25, "interpolated": False}, 1), ({"loss": "auc"}, 0)],
)
def test_synchronous_ranking_makes_the_steps_of_one_device(shapes, tmp_path, settings, background):
    """Objects on both devices, or none on one, `background`: the normalisers are of all images.

    Two devices add up the images' gradients in another order than one, and so does one device that gets the images in
    another order: float32 rounds otherwise, by as much. A wrong normaliser is off by whole percents.
    """
    steps, losses = [], []
    for name, cpus, order in (("one", 1, [0, 1, 2, 3]), ("reordered", 1, [2, 3, 0, 1]), ("two", 2, [0, 1, 2, 3])):
        run = tiny_run(shapes, tmp_path / name, cpus=cpus, sync_ranking=cpus > 1, **settings)
        # Live BatchNorm would see other statistics on half a batch.
        run.network.backbone.freeze(set(run.network.backbone._collect_params_with_prefix()))
        run.trainer = make_trainer(run.network, run.recipe, "device")
        batch = next(iter(run.loader))
        if background is not None:
            batch[1][2 * background : 2 * background + 2] = 0
        losses.append(run.update([mx.nd.take(array, mx.nd.array(order)) for array in batch], RATES[0]))
        steps.append(optimizer_states(run.trainer, run.network))
        run.log.close()
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-6)
    reordered, two = (
        {
            name: np.abs(step[name][0] - velocity).max() / np.abs(velocity).max()
            for name, (velocity,) in steps[0].items()
        }
        for step in steps[1:]
    )
    worst = max(two, key=two.get)
    print(f"largest difference of a step, relative to its scale: {two[worst]:.1e} (parameter: {worst})")
    assert two[worst] <= 4 * max(reordered.values()) <= 1e-5


def test_devices_keep_the_same_weights(make_run):
    run, _ = make_run(2)
    for batch in run.loader:
        run.update(batch, RATES[0])
    for name, param in run.network._collect_params_with_prefix().items():
        if param.grad_req != "null":
            one, other = (array.asnumpy() for array in param.list_data())
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_parameters_are_shared_before_the_first_step(shapes, tmp_path):
    """Left to that step, as Gluon does, a worker may pull the sum of gradients that has taken a weight's place."""
    run = tiny_run(shapes, tmp_path, cpus=2)
    assert run.trainer._kv_initialized
    assert run.trainer._params_to_init == []


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_batch_without_any_loss_leaves_weights_and_optimizer_alone(make_run, cpus):
    run, batch = make_run(cpus)
    run.update(batch, RATES[0])  # from here on momentum alone would move the weights
    images, class_targets, box_targets = batch
    nothing = [images, mx.nd.broadcast_minimum(class_targets, mx.nd.zeros((1,))), box_targets]
    weights, states = weights_of(run.network), optimizer_states(run.trainer, run.network)
    assert not run.update(nothing, RATES[0]).any()
    assert_same_arrays(weights_of(run.network), weights)
    assert_same_arrays(optimizer_states(run.trainer, run.network), states)


def test_one_device_without_a_loss_halves_the_step(make_run):
    run, batch = make_run(2)
    batch[1][2:] = 0  # the second device's images are all background
    before = weights_of(run.network)
    losses, gradients = plain_losses_and_gradients(run, split(batch, 2)[:1])
    np.testing.assert_allclose(run.update(batch, RATES[0]), losses[0] / 2, rtol=1e-6)
    for name, (velocity,) in optimizer_states(run.trainer, run.network).items():
        step = -RATES[0] * (gradients[name] / 2 + run.recipe.wd * before[name])
        np.testing.assert_allclose(velocity, step, rtol=0, atol=1e-6 * np.abs(step).max(), err_msg=name)
