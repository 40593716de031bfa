"""The backbone's names, shapes, initial values, and what of it freezes."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model
from mxnet import autograd
from narrow_network import NAME

from symbols.resnet import BACKBONES, BATCH_NORM_ROLES, ResNetFeatures

# torchvision's and the papers' numbers of parameters, running statistics not among them, less the 1000-way classifier.
LEARNABLE = {
    "resnet18_v1b": 11_689_512 - 513_000,
    "resnet34_v1b": 21_797_672 - 513_000,
    "resnet50_v1b": 25_557_032 - 2_049_000,
    "resnet101_v1b": 44_549_160 - 2_049_000,
}


def named(backbone: ResNetFeatures) -> dict[str, mx.gluon.Parameter]:
    return backbone._collect_params_with_prefix()


def is_norm(name: str) -> bool:
    return name.rpartition(".")[2] in BATCH_NORM_ROLES


def values(backbone: ResNetFeatures) -> dict[str, np.ndarray]:
    return {name: param.data().asnumpy() for name, param in named(backbone).items()}


def random_backbone(frozen=lambda name: False, network: str = NAME) -> ResNetFeatures:
    """A backbone with initial values, frozen as if the parameters of which `frozen` holds were pretrained."""
    mx.random.seed(3)
    backbone = ResNetFeatures(network)
    backbone.initialize_random([mx.cpu()])
    backbone.freeze({name for name in named(backbone) if frozen(name)})
    return backbone


def train_once(backbone: ResNetFeatures) -> dict[str, np.ndarray]:
    """One pass there and back; returns the gradients of what learns."""
    images = mx.nd.random.normal(2, 1, (2, 3, 64, 64))
    with autograd.record():
        loss = sum((maps**2).mean() for maps in backbone(images))
    loss.backward()
    mx.nd.waitall()
    return {name: param.grad().asnumpy() for name, param in named(backbone).items() if param.grad_req != "null"}


@pytest.mark.parametrize("name", LEARNABLE)
def test_parameters_are_gluoncvs_without_the_classifier(name):
    backbone = named(ResNetFeatures(name))
    classifier = get_model(name, pretrained=False, pretrained_base=False)
    classifier.infer_shape(mx.nd.zeros((1, 3, 224, 224)))
    shapes = {key: param.shape for key, param in classifier._collect_params_with_prefix().items() if key[:2] != "fc"}
    assert {key: param.shape for key, param in backbone.items()} == shapes
    learnable = [math.prod(param.shape) for key, param in backbone.items() if "running" not in key]
    assert sum(learnable) == LEARNABLE[name]


@pytest.mark.parametrize("name", LEARNABLE)
def test_feature_maps_have_the_channels_and_strides_announced(name):
    features = mx.sym.Group(ResNetFeatures(name)(mx.sym.var("images")))
    _, shapes, _ = features.infer_shape_partial(images=(2, 3, 96, 160))
    assert shapes == [
        (2, channels, 96 // stride, 160 // stride) for channels, stride in zip(BACKBONES[name], (8, 16, 32))
    ]


def test_unknown_name():
    with pytest.raises(ValueError, match=r"unknown backbone 'vgg16'; there are resnet18_v1b, .*resnet101_v1b"):
        ResNetFeatures("vgg16")


def test_initial_values_are_he_et_als():
    for name, array in values(random_backbone(network="resnet18_v1b")).items():
        if is_norm(name):
            assert (array == (1 if name.endswith(("gamma", "running_var")) else 0)).all(), name
        else:
            fan_out = array.shape[0] * array.shape[2] * array.shape[3]
            assert array.std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03), name


def test_batch_norm_that_is_all_pretrained_freezes():
    backbone = random_backbone(frozen=is_norm)
    rng = np.random.default_rng(0)
    for name, param in named(backbone).items():
        if is_norm(name):
            param.set_data(mx.nd.array(rng.uniform(0.5, 1.5, param.shape)))
    before = values(backbone)
    gradients = train_once(backbone)
    after = values(backbone)
    for name, param in named(backbone).items():
        if is_norm(name):
            assert param.grad_req == "null", name
            np.testing.assert_array_equal(after[name], before[name], err_msg=name)
        else:
            assert gradients[name].any(), name


@pytest.mark.parametrize("hybrid", [False, True])
def test_frozen_network_computes_the_same_in_training(hybrid):
    backbone = random_backbone(frozen=lambda name: True)
    if hybrid:
        backbone.hybridize(static_alloc=True)
    images = mx.nd.random.normal(2, 1, (2, 3, 64, 64))
    at_test = [maps.asnumpy() for maps in backbone(images)]
    with autograd.record():
        in_training = [maps.asnumpy() for maps in backbone(images)]
    for maps, same in zip(at_test, in_training):
        np.testing.assert_allclose(maps, same, rtol=1e-4, atol=1e-4)


def test_network_at_random_keeps_on_learning_all():
    backbone = random_backbone()
    before = values(backbone)
    gradients = train_once(backbone)
    after = values(backbone)
    for name in named(backbone):
        if "running" in name:
            assert (after[name] != before[name]).any(), name
        else:
            assert gradients[name].any(), name


def test_wholly_pretrained_network_learns_convolutions_from_the_second_stage_on():
    gradients = train_once(random_backbone(frozen=lambda name: True))
    convolutions = {name for name in named(ResNetFeatures(NAME)) if not is_norm(name)}
    assert set(gradients) == {name for name in convolutions if name.startswith(("layer2.", "layer3.", "layer4."))}
    assert all(gradient.any() for gradient in gradients.values())


def test_parts_at_random_keep_on_learning_beside_pretrained_ones():
    def pretrained(name: str) -> bool:
        missing = ("bn1.beta", "layer1.0.conv2.weight", "layer3.1.bn1.running_var", "layer4.")
        return not name.startswith(missing)

    backbone = random_backbone(pretrained)
    before = values(backbone)
    gradients = train_once(backbone)
    after = values(backbone)
    # One array short, a BatchNorm is not pretrained: all of it learns.
    live_norms = ("bn1.", "layer3.1.bn1.", "layer4.")
    for name in named(backbone):
        if "running" in name:
            moved = (after[name] != before[name]).any()
            assert moved == name.startswith(live_norms), name
        elif is_norm(name):
            assert (name in gradients) == name.startswith(live_norms), name
        else:
            frozen = name.startswith(("conv1.", "layer1.")) and name != "layer1.0.conv2.weight"
            assert (name in gradients) == (not frozen), name
    assert all(gradient.any() for gradient in gradients.values())
