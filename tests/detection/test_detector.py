"""The detector: images of any size in, boxes in their own pixels out, and each image's boxes under its own name."""

from __future__ import annotations

import weakref
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from narrow_network import NAME
from PIL import Image
from tiny_training import tiny_recipe

from aploss_mx.checkpoint import Checkpoint, parameters_of
from aploss_mx.config import ConfigError, Recipe
from aploss_mx.data.sample import Sample
from aploss_mx.detection.detector import Detector, views_of
from aploss_mx.detection.postprocess import PostProcessing
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.detections import Detections
from symbols.retinanet import get_network

CLASSES = ("cat", "dog", "bird")
ANCHOR, LABEL = 40, 2  # one that lies in the middle of the inputs below


def scores_of_grey(levels) -> np.ndarray:
    """What `one_box` gives to grey images: the sigmoid of their normalised red."""
    return 1 / (1 + np.exp(-(np.asarray(levels, float) / 255 - 0.485) / 0.229))


def one_box(images: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Stand in for a network: each image has one object, at ANCHOR, with its first pixel as the logit."""
    batch, _, height, width = images.shape
    logits = np.full((batch, len(make_anchors(height, width)), len(CLASSES)), -50, np.float32)
    logits[:, ANCHOR, LABEL] = images.asnumpy()[:, 0, 0, 0]
    return mx.nd.array(logits), mx.nd.zeros((*logits.shape[:2], 4))


@pytest.fixture
def of_one_box() -> Detector:
    return Detector(one_box, CLASSES, Recipe(test_short=64, test_long=128, topk=1), mx.cpu())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A network with random weights, whose biases are such that it finds something everywhere."""
    mx.random.seed(0)
    network = get_network(NAME, len(CLASSES), 16, mx.cpu(), None)
    network.class_head[-1].bias.set_data(mx.nd.zeros_like(network.class_head[-1].bias.data()))
    path = tmp_path_factory.mktemp("detector") / "last.npz"
    Checkpoint(tiny_recipe(test_long=96), CLASSES, 1, 1, 1, 0.0, {}, (), parameters_of(network), {}).save(path)
    yield path
    path.unlink()


class Nothing(PostProcessing):
    def candidates(self, *_) -> Detections:
        return Detections()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save_sample(folder: Path, image_id: str, image: np.ndarray) -> Sample:
    Image.fromarray(image).save(folder / f"{image_id}.png")
    return Sample(image_id, folder / f"{image_id}.png", image.shape[1], image.shape[0])


@pytest.mark.parametrize(
    ("height", "width", "scale", "input_shape"),
    [(100, 200, 0.64, (64, 128)), (200, 100, 0.64, (128, 64)), (64, 64, 1, (64, 64)), (32, 50, 2, (64, 128)),
     (50, 400, 0.32, (32, 128))],
)  # fmt: skip
def test_boxes_are_in_the_images_own_pixels(of_one_box, height, width, scale, input_shape):
    found = of_one_box.predict(np.full((height, width, 3), 200, np.uint8))
    anchor = make_anchors(*input_shape)[ANCHOR]
    expected = np.clip(anchor / scale, 0, [width, height, width, height])
    assert expected[2] > expected[0]
    assert expected[3] > expected[1]
    at_the_object = found.scores > 0.5
    np.testing.assert_allclose(found.boxes[at_the_object], [expected], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[at_the_object], [LABEL])
    np.testing.assert_allclose(found.scores[at_the_object], scores_of_grey([200]), rtol=1e-5)


def test_each_image_gets_its_own_boxes_whatever_the_batches(of_one_box, tmp_path):
    shapes = [(40, 60), (60, 40), (40, 40), (30, 90)]
    levels = np.linspace(130, 255, 22).astype(np.uint8)
    samples = [
        save_sample(tmp_path, f"image{number}", np.full((*shapes[number % 4], 3), level, np.uint8))
        for number, level in enumerate(levels)
    ]
    detections = of_one_box.detect(samples, of_one_box.loader(samples, 0))
    assert detections.keys() == {sample.image_id for sample in samples}
    found = [detections[sample.image_id] for sample in samples]
    np.testing.assert_allclose([max(one.scores) for one in found], scores_of_grey(levels), rtol=1e-5)
    for sample, one in zip(samples, found):
        alone = of_one_box.predict(np.asarray(Image.open(sample.image_path)))
        np.testing.assert_array_equal(one.boxes, alone.boxes)
        np.testing.assert_array_equal(one.labels, alone.labels)
        assert (one.boxes[:, 2:] <= [sample.width, sample.height]).all()


def test_images_without_a_box_are_there_too(of_one_box, tmp_path):
    of_one_box.postprocess = Nothing()
    samples = [save_sample(tmp_path, name, noise(64, 64)) for name in ("one", "two")]
    detections = of_one_box.detect(samples, of_one_box.loader(samples, 0))
    assert {image_id: len(found) for image_id, found in detections.items()} == {"one": 0, "two": 0}


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((64, 64, 3), np.float32), r"float32 \(64, 64, 3\)"),
        (np.zeros((64, 64, 4), np.uint8), r"uint8 \(64, 64, 4\)"),
        (np.zeros((64, 64), np.uint8), r"uint8 \(64, 64\)"),
        (np.zeros((0, 64, 3), np.uint8), r"uint8 \(0, 64, 3\)"),
        (Image.new("L", (0, 64)), r"uint8 \(64, 0, 3\)"),
        (None, "NoneType of object"),
        (b"JPEG", "bytes of"),
    ],
)
def test_images_of_another_kind_are_refused(of_one_box, image, told):
    for images in (image, [np.zeros((64, 64, 3), np.uint8), image]):
        with pytest.raises(ValueError, match=f"images must be RGB, uint8 of shape .*, not a .*{told}"):
            of_one_box.predict(images)


def test_pictures_files_and_arrays_of_mxnet_are_images_too(checkpoint, tmp_path):
    detector, image = Detector.load(checkpoint), noise(48, 64)
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(np.rot90(image)).save(turned, exif=exif)
    expected = detector.predict(image)
    assert len(expected)
    pillow = Image.fromarray(image)
    pictures = (pillow, pillow.convert("RGBA"), turned, str(turned), mx.nd.array(image, dtype=np.uint8), image)
    for found in (*detector.predict(iter(pictures)), *map(detector.predict, pictures)):
        np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_many_images_have_each_its_own_boxes_and_are_not_held(of_one_box):
    shapes = [(40, 60), (60, 40), (40, 40), (40, 60)]
    levels = np.linspace(130, 255, 22).astype(np.uint8)
    given: list[weakref.ref] = []

    def images():
        for number, level in enumerate(levels):
            assert sum(image() is not None for image in given) <= 1  # the last one, whose turn it was
            image = np.full((*shapes[number % 4], 3), level, np.uint8)
            given.append(weakref.ref(image))
            yield image
            del image

    found = of_one_box.predict(images(), batch_size=3)
    np.testing.assert_allclose([max(one.scores) for one in found], scores_of_grey(levels), rtol=1e-5)
    for number, one in enumerate(found):
        alone = of_one_box.predict(np.full((*shapes[number % 4], 3), levels[number], np.uint8))
        np.testing.assert_array_equal(one.boxes, alone.boxes)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_no_image_are_refused(of_one_box, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, not {batch_size}"):
        of_one_box.predict([np.zeros((64, 64, 3), np.uint8)], batch_size)


def test_no_images_no_detections(of_one_box):
    assert of_one_box.detect([], of_one_box.loader([], 0)) == {}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (63, 65), (480, 640)])
def test_images_of_any_size(checkpoint, height, width):
    found = Detector.load(checkpoint).predict(noise(height, width))
    assert 0 < len(found) <= 100
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= [width, height]).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert set(found.labels) <= {0, 1, 2}


def test_test_settings_may_be_changed(checkpoint):
    image = noise(64, 64)
    usual = Detector.load(checkpoint)
    few = Detector.load(checkpoint, max_detections="3")
    assert (usual.views[0].transform.shorter, usual.views[0].transform.longest) == (64, 96)
    np.testing.assert_array_equal(few.predict(image).boxes, usual.predict(image).boxes[:3])
    larger = Detector.load(str(checkpoint), mx.cpu(), test_short=128, test_long=128)
    assert larger.views[0](image).shape == (3, 128, 128)
    assert usual.classes == few.classes == CLASSES


OF_THE_NETWORK = [("anchor_size", 8), ("pixels", "caffe"), ("classes", "a,b"), ("lr", 1)]


@pytest.mark.parametrize(("name", "value"), [("topk", 0), ("nms_threshold", 2), ("test_size", 64), *OF_THE_NETWORK])
def test_wrong_settings_are_refused_by_name(checkpoint, name, value):
    with pytest.raises(ConfigError, match=name):
        Detector.load(checkpoint, **{name: value})


@pytest.mark.parametrize("device", ["cpu", 0, [mx.cpu()]])
def test_devices_are_contexts(checkpoint, device):
    with pytest.raises(TypeError, match=r"device must be a context of MXNet, such as mx\.cpu.* not "):
        Detector.load(checkpoint, device)


def test_sides_in_the_wrong_order_are_refused_by_name(checkpoint):
    with pytest.raises(ConfigError, match="test_long"):
        Detector.load(checkpoint, test_short=128)


@pytest.mark.parametrize("scales", ["", "64,96"])
def test_with_flips_a_mirror_image_has_the_mirrored_detections(checkpoint, scales):
    detector = Detector.load(checkpoint, test_scales=scales, test_flip=True, nms_threshold=0.3)
    image = noise(80, 120)
    found, mirrored = detector.predict(image), detector.predict(image[:, ::-1])
    assert len(found) > 10
    np.testing.assert_allclose(mirrored.scores, found.scores, rtol=1e-4)
    boxes = np.stack(
        [120 - mirrored.boxes[:, 2], mirrored.boxes[:, 1], 120 - mirrored.boxes[:, 0], mirrored.boxes[:, 3]], 1
    )
    np.testing.assert_allclose(boxes[:10], found.boxes[:10], atol=0.01)


def test_one_scale_of_many_is_the_shorter_side(checkpoint):
    image = noise(80, 120)
    one = Detector.load(checkpoint, test_short=64, test_long=96).predict(image)
    other = Detector.load(checkpoint, test_short=32, test_long=48, test_scales="64").predict(image)
    np.testing.assert_array_equal(other.boxes, one.boxes)
    np.testing.assert_array_equal(other.scores, one.scores)


def test_views():
    recipe = Recipe(test_short=500, test_long=800, test_scales=(400, 1000), test_flip=True)
    views = [(view.transform.shorter, view.transform.longest, view.mirrored) for view in views_of(recipe)]
    assert views == [(400, 640, False), (400, 640, True), (1000, 1600, False), (1000, 1600, True)]
    assert len(views_of(Recipe())) == 1
    assert [view.transform.warp for view in views_of(Recipe()) + views_of(Recipe(test_warp=True))] == [False, True]


def test_all_views_of_all_samples(checkpoint, tmp_path):
    detector = Detector.load(checkpoint, test_scales="64,96", test_flip=True)
    images = {"a": noise(80, 120), "b": noise(64, 64, 1), "c": noise(80, 120, 2)}
    samples = [save_sample(tmp_path, name, image) for name, image in images.items()]
    found = detector.detect(samples, detector.loader(samples, 0))
    for name, image in images.items():
        alone = detector.predict(image)
        assert len(alone)
        np.testing.assert_allclose(found[name].scores, alone.scores, rtol=1e-4)
        np.testing.assert_allclose(found[name].boxes, alone.boxes, rtol=1e-3, atol=1e-2)
