"""The whole ImageNet ResNet-18: it loads as it is, computes what its source does, and sees."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize
from tiny_training import tiny_recipe
from weights_files import is_live, random_backbone

from aploss_mx.data.pixels import normalize, read_image
from aploss_mx.data.voc import VOC_CLASSES, VOCDetection
from aploss_mx.training.pretrained import load_pretrained
from aploss_mx.training.resume import new_network
from symbols.resnet import BATCH_NORM_ROLES, ResNetFeatures

CROP = 128  # side in pixels


def stages(backbone: ResNetFeatures, images: np.ndarray) -> list[mx.nd.NDArray]:
    """Return the maps (B, ·, ·, ·) of the four residual stages."""
    maps = [backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(mx.nd.array(images)))))]
    for number in (1, 2, 3, 4):
        maps.append(getattr(backbone, f"layer{number}")(maps[-1]))
    return maps[1:]


@pytest.fixture(scope="module")
def pretrained(whole_resnet18) -> ResNetFeatures:
    backbone = random_backbone()
    assert load_pretrained(backbone, "resnet18_v1b", str(whole_resnet18)) == ([], [])
    return backbone


def test_a_run_says_in_one_line_that_all_was_found(whole_resnet18, capsys):
    new_network(tiny_recipe(network="resnet18_v1b", pretrained=str(whole_resnet18)), VOC_CLASSES, [mx.cpu()])
    assert capsys.readouterr().out == f"{whole_resnet18} fills all of resnet18_v1b; a classifier is not needed\n"


def test_stem_first_stage_and_all_batch_norms_are_frozen_as_in_the_paper(pretrained):
    for name in pretrained._collect_params_with_prefix():
        frozen = name.endswith(BATCH_NORM_ROLES) or name.startswith(("conv1.", "layer1."))
        assert is_live(pretrained, name) != frozen, name


def test_features_of_photographs_are_those_of_the_source(pretrained, whole_resnet18, shared_data):
    with np.load(whole_resnet18.with_name(f"{whole_resnet18.stem}_reference.npz")) as reference:
        names = reference["photographs"].tolist()
        images = [
            Image.fromarray(read_image(shared_data / "demo" / name)).resize((224, 224), Image.BILINEAR)
            for name in names
        ]
        maps = stages(pretrained, np.stack([normalize(np.array(image)) for image in images]))
        for number, of_stage in enumerate(maps, 1):
            means = of_stage.mean(axis=(2, 3)).asnumpy()
            np.testing.assert_allclose(means, reference[f"layer{number}_mean"], rtol=0, atol=1e-4)
        dog = maps[-1][names.index("dog.jpg")].asnumpy()
        np.testing.assert_allclose(dog, reference["layer4_of_dog"], rtol=0, atol=1e-4)


def crops(root: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `count` objects of a split that are not difficult, (count, 3, CROP, CROP), and their labels."""
    images, labels = [], []
    for sample in VOCDetection(root, split, VOC_CLASSES).samples:
        picture = Image.fromarray(read_image(sample.image_path))
        for box, label in zip(sample.boxes[~sample.difficult], sample.labels[~sample.difficult]):
            crop = picture.crop(tuple(box.tolist())).resize((CROP, CROP), Image.BILINEAR)
            images.append(normalize(np.array(crop)))
            labels.append(label)
        if len(images) >= count:
            return np.stack(images[:count]), np.array(labels[:count])
    raise AssertionError(f"{split} has only {len(images)} objects")


def probe(backbone: ResNetFeatures, train: tuple, test: tuple) -> float:
    """Return the share of `test` that softmax regression on the last stage's mean features names right."""

    def features(images: np.ndarray) -> np.ndarray:
        parts = np.array_split(images, max(1, len(images) // 50))
        return np.concatenate([stages(backbone, part)[-1].mean(axis=(2, 3)).asnumpy() for part in parts])

    known, seen = features(train[0]), features(test[0])
    mean, std = known.mean(axis=0), known.std(axis=0) + 1e-6
    known, seen = (np.c_[(part - mean) / std, np.ones(len(part))].astype(np.float64) for part in (known, seen))
    truth = np.eye(len(VOC_CLASSES))[train[1]]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(known.shape[1], -1)
        logits = known @ weights
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        value = -np.mean(np.log(chances[truth > 0] + 1e-300)) + 0.01 * (weights**2).sum()
        return value, (known.T @ (chances - truth) / len(known) + 0.02 * weights).ravel()

    start = np.zeros(known.shape[1] * len(VOC_CLASSES))
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return np.mean((seen @ weights.reshape(known.shape[1], -1)).argmax(axis=1) == test[1])


@pytest.mark.slow
def test_a_linear_probe_names_objects(pretrained, shared_data):
    """0.87 was measured with PyTorch, and 0.45 with random features."""
    root = shared_data / "VOCdevkit"
    train, test = crops(root, "2007_train", 4000), crops(root, "2007_val", 960)
    seeing, blind = probe(pretrained, train, test), probe(random_backbone(), train, test)
    print(f"linear probe: {seeing:.3f}, random features {blind:.3f}")
    assert seeing > 0.84
    assert blind < 0.52
