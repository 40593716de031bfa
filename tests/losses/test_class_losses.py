"""Every classification loss in the detector: it learns, trains from the command line, and is decoded as trained."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.utils import split_and_load
from shared_folder import SHARED
from tiny_training import tiny_flags, tiny_recipe, tiny_run

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import train_voc
from aploss_mx.config import GROUPING, RANKING_LOSSES, SETTINGS_OF_LOSSES, ConfigError
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection
from aploss_mx.detection.detector import Detector
from aploss_mx.losses import APLoss, OHEMCrossEntropyLoss
from aploss_mx.losses.from_recipe import make_class_loss, make_sync_method
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.training.options import Options
from aploss_mx.training.setup import set_up

LOSSES = list(SETTINGS_OF_LOSSES)
STEPS = 30


@pytest.mark.parametrize("loss", LOSSES)
def test_30_steps_on_8_images_lower_it(loss, shapes, folder):
    # Real images where there are some, generated ones elsewhere.
    real = SHARED / "data" / "VOCdevkit"
    of_real, of_shapes = (real, "2007_val", VOC_CLASSES), (shapes, "2007_train", SHAPES_CLASSES)
    root, split, classes = of_real if real.is_dir() else of_shapes
    dataset = VOCDetection(root, split, classes)
    settings = {"augmentation": "none", "data_shape": 32, "batch_size": 8, "optimizer": "adam", "lr": 0.01}
    recipe = tiny_recipe(loss=loss, classes=",".join(classes), **settings)
    options = Options(folder, [mx.cpu()], num_workers=0)
    run = set_up(recipe, classes, dataset.samples[:8], dataset.samples[:8], options)
    for parameter in run.network.backbone.collect_params().values():
        parameter.grad_req = "null"  # the heads' learning is enough to see, and much faster
    batch = next(iter(run.loader))
    losses = [run.update(batch, recipe.lr)[0] for _ in range(STEPS)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=() if loss in ("focal", "ohem") else pytest.mark.slow) for loss in LOSSES]
)
def test_it_trains_and_detects_from_the_command_line(loss, shapes, folder):
    train_voc.main(tiny_flags(shapes, folder, loss=loss))
    checkpoint = Checkpoint.load(folder / "last.npz")
    assert (checkpoint.recipe.loss, checkpoint.step) == (loss, 2)
    outputs = 6 * (len(SHAPES_CLASSES) + (loss == "ohem"))
    assert checkpoint.parameters["class_head.4.weight"].shape[0] == outputs
    found = Detector.load(folder / "last.npz").predict(np.zeros((64, 64, 3), np.uint8))
    assert set(found.labels) <= set(range(len(SHAPES_CLASSES)))
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_ohem_goes_on_after_an_interruption(shapes, folder):
    tiny_run(shapes, folder, loss="ohem").run()
    run = tiny_run(shapes, folder, resume="auto", loss="ohem", epochs=2)
    assert run.step == 2
    run.run()


OTHER = {"delta": 0.3, "interpolated": False, "temperature": 2.0, "ranking_batch": 1, "ranking_scope": "class"}


@pytest.mark.parametrize("loss", RANKING_LOSSES)
def test_the_settings_of_a_loss_reach_it(loss):
    """The block's, and those of what ranks all devices' images together, which must be the same loss."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 40, 3)) + np.array([[[2]], [[0]]]) + np.arange(3)
    class_targets = rng.integers(-1, 4, (2, 40))
    values = []
    for setting in [None, *sorted(SETTINGS_OF_LOSSES[loss] - {"sync_ranking"})]:
        settings = {setting: OTHER[setting]} if setting else {}
        block = make_class_loss(tiny_recipe(loss=loss, **settings))
        values.append(block(mx.nd.array(logits), mx.nd.array(class_targets)).asscalar())
        if "sync_ranking" in SETTINGS_OF_LOSSES[loss] and setting not in GROUPING:
            method = make_sync_method(tiny_recipe(loss=loss, sync_ranking=True, **settings))
            together, _ = solve_anchors(method, logits.astype(np.float32), class_targets)
            assert together == pytest.approx(values[-1], rel=1e-6)
    assert np.abs(np.subtract.outer(values, values) + np.eye(len(values))).min() > 1e-4


def test_each_loss_is_another():
    rng = np.random.default_rng(0)
    logits, class_targets = mx.nd.array(rng.normal(size=(2, 40, 3))), mx.nd.array(rng.integers(-1, 4, (2, 40)))
    values = [make_class_loss(tiny_recipe(loss=loss))(logits, class_targets).asscalar() for loss in LOSSES[:-1]]
    assert len(set(np.round(values, 3))) == len(values) == len(LOSSES) - 1  # ohem's logits have a background
    assert isinstance(make_class_loss(tiny_recipe(loss="ohem")), OHEMCrossEntropyLoss)


def test_the_ranking_batch_averages_groups(shapes, folder):
    run = tiny_run(shapes, folder, ranking_batch=2)
    images, class_targets, _ = (split_and_load(array, [mx.cpu()])[0] for array in next(iter(run.loader)))
    logits, _ = run.network(images)
    halves = [APLoss()(logits[part], class_targets[part]).asscalar() for part in (slice(0, 2), slice(2, 4))]
    assert run.class_loss(logits, class_targets).asscalar() == pytest.approx(np.mean(halves), rel=1e-6)


def test_a_ranking_batch_that_does_not_divide_is_refused(shapes, folder):
    with pytest.raises(ConfigError, match="ranking_batch 3 does not divide the 4 images"):
        tiny_run(shapes, folder, ranking_batch=3)
    with pytest.raises(ConfigError, match="ranking_batch 4 does not divide the 2 images"):
        tiny_run(shapes, folder, ranking_batch=4, cpus=2)
    assert not folder.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "focal", "ranking_batch": 2},
        {"loss": "ohem", "ranking_scope": "class"},
        {"loss": "focal", "delta": 0.5},
        {"loss": "hinge-ap", "interpolated": False},
        {"loss": "auc", "interpolated": False},
        {"loss": "ap", "temperature": 1},
    ],
)
def test_settings_of_another_loss_are_refused(settings):
    with pytest.raises(ConfigError, match="of no use to loss"):
        tiny_recipe(**settings)
