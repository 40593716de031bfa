"""Layers of the detector's network on a GPU against the CPU: outputs and gradients of one layer at a time."""

from __future__ import annotations

import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

TOLERANCE = 1e-5 if os.environ.get("APLOSS_MX_TEST_CUDA") == "fake" else 5e-3  # a GPU may round to TF32
LAYERS = {
    "convolution": lambda: nn.Conv2D(4, 3, padding=1),
    "convolution, stride 2": lambda: nn.Conv2D(4, 7, 2, 3, use_bias=False),
    "convolution, dilated": lambda: nn.Conv2D(4, 3, padding=2, dilation=2),
    "max pooling": lambda: nn.MaxPool2D(3, 2, 1),
    "average pooling": lambda: nn.AvgPool2D(3, 2, 1),
    "average pooling, without padding": lambda: nn.AvgPool2D(3, 2, 1, count_include_pad=False),
    "batch normalisation": nn.BatchNorm,
    "batch normalisation, frozen": lambda: nn.BatchNorm(use_global_stats=True),
    "ReLU": lambda: nn.Activation("relu"),
    "sigmoid": lambda: nn.Activation("sigmoid"),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layer(make):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, 11, 8)).astype(np.float32)
    layer, found = make(), []
    layer.initialize(mx.init.Normal(0.5), ctx=[mx.cpu(), mx.gpu(0)])
    for device in (mx.cpu(), mx.gpu(0)):
        inputs = mx.nd.array(images, device)
        inputs.attach_grad()
        with autograd.record():
            outputs = layer(inputs)
            slopes = np.random.default_rng(1).normal(size=outputs.shape)
            (outputs * mx.nd.array(slopes, device)).sum().backward()
        params = layer.collect_params().values()
        found.append([outputs, inputs.grad, *(param.grad(device) for param in params if param.grad_req != "null")])
    for on_cpu, on_gpu in zip(*([array.asnumpy() for array in arrays] for arrays in found)):
        np.testing.assert_allclose(on_gpu, on_cpu, TOLERANCE, TOLERANCE)
