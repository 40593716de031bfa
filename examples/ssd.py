#!/usr/bin/env python
"""Train GluonCV's SSD with AP-loss: in another detector, too, the loss of the classes is all that changes.

python examples/ssd.py                  # with AP-loss
python examples/ssd.py --loss softmax   # with SSD's own: softmax cross entropy and hard example mining

Network, targets, box loss, augmentation, inference and metric are GluonCV's. The pictures are painted on the first run.
"""

from __future__ import annotations

import argparse
from typing import Sequence

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
import gluoncv
import mxnet as mx
import numpy as np
from gluoncv.data.batchify import Pad, Stack, Tuple
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform, SSDDefaultValTransform
from gluoncv.model_zoo.ssd import get_ssd
from mxnet import autograd

from aploss_mx.arguments import ArgumentParser, output_folder
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import count, positive_int
from aploss_mx.data.shapes import SHAPES_CLASSES, generate
from aploss_mx.losses import APLoss

SIDE = 128  # pixels


class Shapes(gluoncv.data.VOCDetection):
    """The painted pictures, read as GluonCV reads PASCAL VOC."""

    CLASSES = SHAPES_CLASSES


def make_network() -> mx.gluon.HybridBlock:
    """Return an SSD of four levels over a ResNet-18, from scratch."""
    network = get_ssd(
        "resnet18_v1", SIDE, ["stage2_activation1", "stage3_activation1", "stage4_activation1"], [128],
        sizes=[16, 28, 48, 76, 108], ratios=[[1, 2, 0.5]] * 4, steps=[8, 16, 32, 64], classes=SHAPES_CLASSES,
        dataset="shapes", pretrained_base=False,
    )  # fmt: skip
    network.initialize()
    return network


def train(network: mx.gluon.HybridBlock, data: Shapes, loss: str, epochs: int, lr: float) -> None:
    """Train by Adam, whose rate falls to a tenth for the last quarter of the epochs."""
    with autograd.train_mode():
        _, _, anchors = network(mx.nd.zeros((1, 3, SIDE, SIDE)))
    data = data.transform(SSDDefaultTrainTransform(SIDE, SIDE, anchors))
    loader = mx.gluon.data.DataLoader(data, 8, shuffle=True, batchify_fn=Tuple(*[Stack()] * 3), last_batch="rollover")
    trainer = mx.gluon.Trainer(network.collect_params(), "adam", {"learning_rate": lr, "wd": 1e-5})
    ranking, multi_box = APLoss(), gluoncv.loss.SSDMultiBoxLoss()
    for epoch in range(epochs):
        trainer.set_learning_rate(lr * (0.1 if epoch >= 0.75 * epochs else 1))
        losses = []
        for batch in loader:
            images, class_targets, box_targets = (part.as_in_context(mx.cpu()) for part in batch)
            with autograd.record():
                class_preds, box_preds, _ = network(images)
                (total,), _, (boxes,) = multi_box(class_preds, box_preds, class_targets, box_targets)
                if loss == "ap":
                    # What SSD ranks its detections by: probabilities, of which the first is the background's.
                    scores = mx.nd.log_softmax(class_preds)[:, :, 1:]
                    total = ranking(scores, class_targets) + boxes.sum()
                else:
                    total = total.sum()
            total.backward()
            trainer.step(1)
            losses.append(total.asscalar())
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}", flush=True)


def evaluate(network: mx.gluon.HybridBlock, data: Shapes) -> float:
    """Return the mean over the classes of the AP at IoU 0.5, in percent."""
    data = data.transform(SSDDefaultValTransform(SIDE, SIDE))
    loader = mx.gluon.data.DataLoader(data, 8, batchify_fn=Tuple(Stack(), Pad(pad_val=-1)), last_batch="keep")
    metric = gluoncv.utils.metrics.VOCMApMetric(iou_thresh=0.5, class_names=SHAPES_CLASSES)
    for images, objects in loader:
        labels, scores, boxes = network(images.as_in_context(mx.cpu()))
        metric.update(boxes, labels, scores, objects[:, :, :4], objects[:, :, 4:5], objects[:, :, 5:6])
    return 100 * metric.get()[1][-1]


def main(argv: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", choices=("ap", "softmax"), default="ap", help="of the classes (default: %(default)s)")
    parser.add_argument("--epochs", type=positive_int, default=12, help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="default: %(default)s")
    parser.add_argument(
        "--dataset-root", type=output_folder, default="datasets/shapes", help="of the pictures (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    mx.random.seed(arguments.seed)
    np.random.seed(arguments.seed)  # noqa: NPY002  (GluonCV's augmentation draws from it)
    with readable_errors():
        root = str(generate(arguments.dataset_root))
    network = make_network()
    train(network, Shapes(root, [(2007, "train")]), arguments.loss, arguments.epochs, arguments.lr)
    print(f"AP50 {evaluate(network, Shapes(root, [(2007, 'val')])):.1f}")


if __name__ == "__main__":
    main()
