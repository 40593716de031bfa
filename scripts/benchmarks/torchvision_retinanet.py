#!/usr/bin/env python
"""Train torchvision's RetinaNet, with its focal loss, on the images and the weights of our own small trainings.

It runs in an environment without MXNet (`pip install . torch torchvision opencv-python-headless defusedxml tqdm`); our
evaluation, in the usual one, scores what it detects:

python scripts/benchmarks/torchvision_retinanet.py --dataset-root ~/data/VOCdevkit --pretrained resnet18.npz \\
    --lr 0.001 --backbone-lr-mult 0.1 --epochs 3 --lr-decay-epoch 2 --save-prefix runs/torchvision
python scripts/evaluate.py --dataset-root ~/data/VOCdevkit --split 2007_val \\
    --detections runs/torchvision/detections.json

Images, their order and augmentation, size, width, schedule and what is frozen are those of the recipe small_voc with
160 px and mirroring; anchors (9 a cell), matching, box loss and post-processing are torchvision's, which keeps as many
boxes and as low scores as ours. It resumes after its last whole epoch, with the same settings.
`scripts/benchmarks/step.py --torchvision` times its steps beside ours, by --time-steps.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import resource
import statistics
import time
from typing import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from aploss_mx.arguments import ArgumentParser, output_folder
from aploss_mx.data.examples import AUGMENTATION
from aploss_mx.data.pixels import normalize, read_image
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import TrainTransform
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection
from aploss_mx.evaluation.detections import save_detections
from aploss_mx.geometry.detections import Detections

PLACES = ("dataset_root", "save_prefix")  # which say where a run stands, not what it is
WARMUP_STEPS, WARMUP_FACTOR = 200, 1 / 3
ORDER = 1  # as in `aploss_mx.data.loader`, which imports MXNet: the same images come in the same steps


def main(argv: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-root", required=True, help="folder of VOC")
    parser.add_argument("--pretrained", required=True, metavar="FILE", help=".npz in torchvision's naming")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--save-prefix", type=output_folder, help="folder of the run")
    end.add_argument("--time-steps", type=int, metavar="N", help="print what N steps take after one, as JSON")
    parser.add_argument("--train-split", default="2007_train", help="default: %(default)s")
    parser.add_argument("--val-split", default="2007_val", help="default: %(default)s")
    parser.add_argument("--data-shape", type=int, default=160, help="pixels (default: %(default)s)")
    parser.add_argument("--test-long", type=int, default=267, help="pixels (default: %(default)s)")
    parser.add_argument("--augmentation", default="flip", help="default: %(default)s")
    parser.add_argument("--channels", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--new-conv-std", choices=("he", "torchvision"), default="he", help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=0.0003, help="default: %(default)s")
    parser.add_argument("--backbone-lr-mult", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--lr-decay-epoch", default="12,15", help="default: %(default)s")
    parser.add_argument("--wd", type=float, default=1e-5, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    torch.manual_seed(arguments.seed)
    samples = VOCDetection(arguments.dataset_root, arguments.train_split, VOC_CLASSES).samples
    samples = [sample for sample in samples if not sample.difficult.all()]
    network = make_network(arguments)
    optimizer = make_optimizer(network, arguments)
    goal = train if arguments.save_prefix else time_steps
    goal(network, optimizer, samples, arguments)


def time_steps(
    network: RetinaNet, optimizer: torch.optim.Optimizer, samples: Sequence[Sample], arguments: argparse.Namespace
) -> None:
    """Print the median of the steps' seconds, and the most memory that the process held, in GiB."""
    network.train()
    seconds = []
    for images, targets in itertools.islice(batches(samples, 0, arguments), arguments.time_steps + 1):
        begin = time.perf_counter()
        update(network, optimizer, images, targets, arguments.lr * WARMUP_FACTOR)
        seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"whole step": statistics.median(seconds[1:]), "peak memory": memory}))


def train(
    network: RetinaNet, optimizer: torch.optim.Optimizer, samples: Sequence[Sample], arguments: argparse.Namespace
) -> None:
    """Train to the last epoch, and detect in the test images."""
    folder = arguments.save_prefix
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    settings = {name: value for name, value in vars(arguments).items() if name not in PLACES}
    if (folder / "last.pt").exists():
        saved = torch.load(folder / "last.pt")
        noted = saved.get("settings", settings)  # which earlier versions did not note
        other = [name for name, value in settings.items() if noted.get(name) != value]
        if other:
            raise SystemExit(f"error: --save-prefix {folder} holds a training with another {', '.join(other)}")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["epoch"]
    decays = [int(epoch) for epoch in arguments.lr_decay_epoch.split(",") if epoch]
    steps = -(-len(samples) // arguments.batch_size)
    for epoch in range(start, arguments.epochs):
        network.train()
        losses = []
        for number, (images, targets) in enumerate(batches(samples, epoch, arguments)):
            step = epoch * steps + number
            factor = 0.1 ** sum(epoch >= decay for decay in decays)
            if step < WARMUP_STEPS:
                factor *= WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / WARMUP_STEPS
            losses.append(update(network, optimizer, images, targets, arguments.lr * factor))
            if not np.isfinite(losses[-1]).all():
                raise SystemExit(f"error: the loss is not finite at step {step}: lower --lr")
        class_loss, box_loss = np.mean(losses, axis=0)
        row = [epoch + 1, round(class_loss, 4), round(box_loss, 4)]
        with open(folder / "metrics.csv", "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)
        print("epoch {}: class {} box {}".format(*row), flush=True)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1,
                 "settings": settings}  # fmt: skip
        torch.save(state, folder / "unfinished.pt")
        (folder / "unfinished.pt").replace(folder / "last.pt")
    found = detect(network, VOCDetection(arguments.dataset_root, arguments.val_split, VOC_CLASSES).samples)
    save_detections(folder / "detections.json", found, VOC_CLASSES)
    print(f"detections are in {folder / 'detections.json'}")


def update(
    network: RetinaNet, optimizer: torch.optim.Optimizer, images: list, targets: list, rate: float
) -> list[float]:
    """Make one step; return class and box loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    parts = network(images, targets)
    optimizer.zero_grad()
    sum(parts.values()).backward()
    optimizer.step()
    return [part.item() for part in parts.values()]


def make_network(arguments: argparse.Namespace) -> RetinaNet:
    """Return RetinaNet over C3, C4 and C5 of the pretrained ResNet-18, its P6 from C5, frozen as ours is."""
    body = resnet18(norm_layer=FrozenBatchNorm2d)
    with np.load(arguments.pretrained) as archive:
        missing, unexpected = body.load_state_dict({n: torch.tensor(archive[n]) for n in archive.files}, strict=False)
    if set(missing) - {"fc.weight", "fc.bias"} or set(unexpected) - {"fc.weight", "fc.bias"}:
        raise SystemExit(f"error: {arguments.pretrained} lacks {missing}, and has {unexpected} besides")
    for part in (body.conv1, body.layer1):
        part.requires_grad_(False)
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(
        body, layers, [128, 256, 512], arguments.channels, extra_blocks=LastLevelP6P7(512, arguments.channels)
    )
    network = RetinaNet(
        backbone, len(VOC_CLASSES), min_size=arguments.data_shape, max_size=arguments.test_long,
        image_mean=[0.0] * 3, image_std=[1.0] * 3, score_thresh=0.01, detections_per_img=100,
    )  # fmt: skip
    if arguments.new_conv_std == "he":
        heads = network.head
        outputs = {heads.classification_head.cls_logits, heads.regression_head.bbox_reg}
        for layer in [*backbone.fpn.modules(), *heads.modules()]:
            if isinstance(layer, nn.Conv2d) and layer not in outputs:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network


def make_optimizer(network: RetinaNet, arguments: argparse.Namespace) -> torch.optim.Optimizer:
    """Return Adam, or SGD with momentum, with the backbone's layers at their multiple of the rate."""
    body = [param for param in network.backbone.body.parameters() if param.requires_grad]
    of_body = {id(param) for param in network.backbone.body.parameters()}
    rest = [param for param in network.parameters() if id(param) not in of_body]
    groups = [{"params": body, "multiple": arguments.backbone_lr_mult}, {"params": rest, "multiple": 1.0}]
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=arguments.lr, momentum=0.9, weight_decay=arguments.wd)
    return torch.optim.Adam(groups, lr=arguments.lr, weight_decay=arguments.wd)


def batches(samples: Sequence[Sample], epoch: int, arguments: argparse.Namespace) -> Iterator[tuple[list, list]]:
    """Yield images and targets of an epoch; the last batch is filled up from the start."""
    transform = TrainTransform((arguments.data_shape, arguments.data_shape), arguments.augmentation)
    order = np.random.default_rng((ORDER, arguments.seed, epoch)).permutation(len(samples))
    order = np.resize(order, -(-len(order) // arguments.batch_size) * arguments.batch_size)
    for begin in range(0, len(order), arguments.batch_size):
        images, targets = [], []
        for position in range(begin, begin + arguments.batch_size):
            sample = samples[order[position]]
            rng = np.random.default_rng((AUGMENTATION, arguments.seed, epoch, position))
            kept = ~sample.difficult
            image, boxes, labels = transform(
                read_image(sample.image_path), sample.boxes[kept], sample.labels[kept], rng
            )
            images.append(torch.from_numpy(np.ascontiguousarray(image, np.float32)))
            targets.append({"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)})
        yield images, targets


@torch.no_grad()
def detect(network: RetinaNet, samples: Sequence[Sample]) -> dict[str, Detections]:
    """Return detections by image id."""
    network.eval()
    found = {}
    for sample in samples:
        image = normalize(read_image(sample.image_path)).astype(np.float32)
        (result,) = network([torch.from_numpy(image)])
        boxes, scores, labels = (result[name].numpy() for name in ("boxes", "scores", "labels"))
        found[sample.image_id] = Detections(boxes, scores, labels)
    return found


if __name__ == "__main__":
    main()
