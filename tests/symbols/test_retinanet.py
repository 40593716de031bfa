"""The network's size, shapes, initial values and gradients."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from narrow_network import NAME
from numpy_layers import convolve, relu

from symbols.retinanet import RetinaNet, get_network

LEVELS_OF_64 = 8 * 8 + 4 * 4 + 2 * 2 + 1 + 1  # cells of P3 … P7 on a picture of 64 × 64


def images(*sides: int) -> mx.nd.NDArray:
    return mx.nd.array(np.random.default_rng(0).normal(0, 1, (2, 3, *sides)))


def values(network: RetinaNet) -> dict[str, np.ndarray]:
    return {name: param.data().asnumpy() for name, param in network._collect_params_with_prefix().items()}


@pytest.mark.parametrize(("classes", "channels"), [(1, 16), (3, 16), (20, 256)])
def test_number_of_parameters(classes, channels):
    backbone = 11_689_512 - 513_000  # torchvision's ResNet-18 without its classifier
    conv = 9 * channels * channels + channels
    laterals = (128 + 256 + 512) * channels + 3 * channels
    pyramid = laterals + 3 * conv + (9 * 512 * channels + channels) + conv
    class_head = 4 * conv + (9 * channels + 1) * 6 * classes
    box_head = 4 * conv + (9 * channels + 1) * 6 * 4
    params = RetinaNet("resnet18_v1b", classes, channels)._collect_params_with_prefix()
    counted = sum(math.prod(param.shape) for name, param in params.items() if "running" not in name)
    assert counted == backbone + pyramid + class_head + box_head


@pytest.mark.parametrize("anchors_per_cell", [6, 9])
def test_output_shapes(anchors_per_cell):
    network = RetinaNet(NAME, 5, 16, anchors_per_cell)
    network.initialize_random()
    logits, deltas = network(images(64, 64))
    assert logits.shape == (2, LEVELS_OF_64 * anchors_per_cell, 5)
    assert deltas.shape == (2, LEVELS_OF_64 * anchors_per_cell, 4)


def test_heads_are_the_same_five_convolutions_on_all_levels():
    network = get_network(NAME, 3, 8, std=None)
    batch = images(64, 96)[:1]
    levels = [level.asnumpy()[0] for level in network.fpn(*network.backbone(batch))]
    params = values(network)
    for output, head, fields in zip(network(batch), ("class_head", "box_head"), (3, 4)):
        expected = []
        for maps in levels:
            for number in range(5):
                maps = convolve(maps, params[f"{head}.{number}.weight"], params[f"{head}.{number}.bias"], padding=1)
                maps = relu(maps) if number < 4 else maps
            _, rows, columns = maps.shape
            for row in range(rows):
                for column in range(columns):
                    expected += [maps[fields * a : fields * (a + 1), row, column] for a in range(6)]
        np.testing.assert_allclose(output.asnumpy()[0], expected, rtol=1e-3, atol=1e-4)


def test_resnet50_with_the_papers_width():
    network = RetinaNet("resnet50_v1b", 20)
    _, shapes, _ = mx.sym.Group(network(mx.sym.var("images"))).infer_shape_partial(images=(1, 3, 64, 64))
    assert shapes == [(1, LEVELS_OF_64 * 6, 20), (1, LEVELS_OF_64 * 6, 4)]
    assert network.fpn.down6.weight.shape == (256, 2048, 3, 3)


@pytest.mark.parametrize(("std", "std_of"), [(0.01, lambda fan_in: 0.01), (None, lambda fan_in: math.sqrt(2 / fan_in))])
def test_initial_values_of_new_convolutions(std, std_of):
    network = get_network("resnet18_v1b", 20, 64, std=std)
    for name, array in values(network).items():
        if name.startswith("backbone."):
            continue
        if name == "class_head.4.bias":
            np.testing.assert_allclose(array, -math.log(99), rtol=1e-6)
        elif name.endswith("bias"):
            assert not array.any(), name
        else:
            expected = {"class_head.4.weight": 0.01, "box_head.4.weight": 0.001}.get(
                name, std_of(math.prod(array.shape[1:]))
            )
            assert array.std() == pytest.approx(expected, rel=0.05), name
            assert abs(array.mean()) < 0.05 * expected, name


def test_untrained_network_gives_each_class_one_percent():
    logits, deltas = get_network(NAME, 3)(images(64, 64))
    np.testing.assert_allclose(logits.sigmoid().asnumpy(), 0.01, rtol=0.2)
    assert np.abs(deltas.asnumpy()).max() < 0.1


def test_seed_decides_the_initial_values():
    networks = []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        networks.append(values(get_network(NAME, 2, 8)))
    first, same, other = networks
    for name, array in first.items():
        np.testing.assert_array_equal(array, same[name])
    assert not np.array_equal(first["fpn.output3.weight"], other["fpn.output3.weight"])


def test_initial_values_are_the_same_on_all_devices():
    devices = [mx.cpu(0), mx.cpu(1)]
    network = get_network(NAME, 2, 8, devices)
    for name, param in network._collect_params_with_prefix().items():
        assert param.list_ctx() == devices, name
        first, second = (data.asnumpy() for data in param.list_data())
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_hybrid_network_computes_the_same():
    network = get_network(NAME, 3, 16, std=None)
    for sides in ((64, 96), (96, 64)):
        network.hybridize(active=False)
        plain = [output.asnumpy() for output in network(images(*sides))]
        network.hybridize(static_alloc=True)
        for output, expected in zip(network(images(*sides)), plain):
            np.testing.assert_allclose(output.asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_images_of_a_batch_do_not_see_each_other_at_test():
    network = get_network(NAME, 3, 16, std=None)
    batch = images(64, 64)
    for together, alone in zip(network(batch), network(batch[1:])):
        np.testing.assert_allclose(together[1].asnumpy(), alone[0].asnumpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output", [0, 1], ids=["logits", "deltas"])
@pytest.mark.parametrize("std", [0.01, None])
def test_gradient_reaches_every_parameter(output, std):
    mx.random.seed(0)
    network = get_network(NAME, 2, 32, std=std)
    network.hybridize(static_alloc=True)
    with autograd.record():
        loss = ((network(images(64, 96))[output] - 1) ** 2).sum()
    loss.backward()
    other_head = ("box_head.", "class_head.")[output]
    for name, param in network._collect_params_with_prefix().items():
        if param.grad_req != "null":
            gradient = param.grad().asnumpy()
            assert np.isfinite(gradient).all(), name
            assert gradient.any() == (not name.startswith(other_head)), name
        else:
            assert "running" in name


@pytest.mark.parametrize("name", ["resnet18", "resnet18_v1", "", "RESNET18_V1B"])
def test_unknown_backbone(name):
    with pytest.raises(ValueError, match=f"unknown backbone '{name}'"):
        get_network(name, 3)


@pytest.mark.parametrize("classes", [0, -1])
def test_no_classes(classes):
    with pytest.raises(ValueError, match=f"at least one class, not {classes}"):
        get_network("resnet18_v1b", classes)


def test_a_background_logit_stands_in_front_and_starts_at_evens():
    mx.random.seed(0)
    network = get_network(NAME, 3, 16, background=True)
    logits, deltas = network(images(64, 64))
    assert logits.shape == (2, LEVELS_OF_64 * 6, 4)
    assert deltas.shape == (2, LEVELS_OF_64 * 6, 4)
    assert not network.class_head[-1].bias.data().asnumpy().any()
