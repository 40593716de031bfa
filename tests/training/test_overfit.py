"""The whole way from images to metrics: a network that has seen 8 real images for long enough must find all in them."""

from __future__ import annotations

import shutil

import mxnet as mx
import numpy as np
import pytest

from aploss_mx.config import Recipe
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection
from aploss_mx.detection.detector import Detector
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.training.options import Options
from aploss_mx.training.setup import set_up

IMAGES = 8
STEPS_AN_EPOCH = 50


@pytest.mark.slow
def test_eight_images_are_learned_by_heart(shared_data, shared_weights, tmp_path):
    # Training squeezes images into squares and testing keeps their proportions: only on square ones the two agree.
    voc = VOCDetection(shared_data / "VOCdevkit", "2007_train", VOC_CLASSES)
    samples = [sample for sample in voc.samples if sample.width == sample.height and not sample.difficult.all()]
    samples = samples[:IMAGES]
    assert len(samples) == IMAGES
    recipe = Recipe.from_dict(
        {
            "network": "resnet18_v1b",
            "channels": 64,
            "new_conv_std": "he",
            "pretrained": str(shared_weights),
            "augmentation": "flip",
            "data_shape": 256,
            "batch_size": IMAGES,
            "epochs": 7,
            "optimizer": "adam",
            "lr": 0.0005,
            "lr_decay_epoch": [5],
            "warmup_steps": 50,
            "wd": 0,
            "val_interval": 0,
            "test_short": 256,
            "test_long": 256,
        }
    )
    options = Options(tmp_path / "run", [mx.cpu()], num_workers=1)
    # An epoch ends with a checkpoint, so the images are repeated for fewer of them.
    run = set_up(recipe, VOC_CLASSES, samples * STEPS_AN_EPOCH, samples, options)
    metrics = run.run()
    detector = Detector.load(options.last)
    shutil.rmtree(tmp_path / "run")

    assert run.step == recipe.epochs * STEPS_AN_EPOCH
    assert metrics["AP50"] >= 0.95
    detections = detector.detect(samples, detector.loader(samples, 0))
    again = evaluate(samples, detections, VOC_CLASSES)
    np.testing.assert_allclose([again["AP"], again["AP50"]], [metrics["AP"], metrics["AP50"]])
