"""Training and test transforms as a whole: what comes out, from which seed, and what is refused."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from drawn_images import SEEDS, annotated_images, image_of_box, lit_box, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.data import transforms
from aploss_mx.data.pixels import PIXELS, normalize
from aploss_mx.data.transforms import EvalTransform, TrainTransform, mirror
from aploss_mx.data.windows import Window


def denormalize(tensor):
    _, mean, std = PIXELS["torchvision"]
    return np.rint(tensor.transpose(1, 2, 0) * std + mean)


def test_caffes_pixels_are_blue_first_and_not_scaled():
    image = noise_image(3, 5)
    tensor = normalize(image, "caffe")
    np.testing.assert_allclose(tensor[0], image[..., 2] - 102.9801, atol=1e-4)
    np.testing.assert_allclose(tensor[2], image[..., 0] - 122.7717, atol=1e-4)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    trained, _, _ = TrainTransform((3, 5), "none", "caffe")(image, boxes, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(trained, tensor)
    tested = EvalTransform(3, 5, multiple=1, pixels="caffe")(image)
    np.testing.assert_array_equal(tested, tensor)


def test_the_input_image_is_left_alone():
    image, boxes, labels = noise_image(30, 40), np.array([[1, 2, 30, 20]], np.float32), np.array([3])
    copies = image.copy(), boxes.copy(), labels.copy()
    for seed in range(20):
        TrainTransform((32, 32))(image, boxes, labels, np.random.default_rng(seed))
    for array, copy in zip((image, boxes, labels), copies):
        np.testing.assert_array_equal(array, copy)


def test_mirroring_moves_boxes_with_pixels_and_twice_is_the_identity():
    image, boxes = image_of_box(20, 30, (3, 4, 11, 17))
    mirrored, moved = mirror(image, boxes)
    assert lit_box(mirrored) == moved[0].tolist() == [19, 4, 27, 17]
    twice, returned = mirror(mirrored, moved)
    np.testing.assert_array_equal(twice, image)
    np.testing.assert_array_equal(returned, boxes)


@pytest.mark.parametrize("augmentation", ["ssd", "flip", "none"])
def test_training_boxes_stay_on_their_pixels(monkeypatch, augmentation):
    monkeypatch.setattr(transforms, "photometric_distort", lambda image, rng: image)
    image, boxes = image_of_box(120, 160, (30, 20, 120, 90))
    transform = TrainTransform((160, 224), augmentation)
    outputs = set()
    for seed in range(150):
        tensor, moved, labels = transform(image, boxes, np.array([7]), np.random.default_rng(seed))
        assert tensor.shape == (3, 160, 224) and labels.tolist() == [7]
        np.testing.assert_allclose(lit_box(denormalize(tensor)), moved[0], atol=1)
        outputs.add(moved.tobytes())
    if augmentation == "ssd":
        assert len(outputs) > 100
    else:
        assert len(outputs) == {"flip": 2, "none": 1}[augmentation]


@pytest.mark.parametrize("augmentation", ["ssd", "flip", "none"])
def test_each_stage_takes_what_the_one_before_made(monkeypatch, augmentation):
    """Colours, the expanded window, the crop of it and the method of resizing, all replaced by something to see."""
    image, boxes, labels = noise_image(60, 80), np.array([[10, 20, 50, 40]], np.float32), np.array([3])

    def crop(window, boxes, labels, rng):
        assert window == Window(-10, -20, 150, 100)
        return Window(-10, 0, 50, 30), boxes, labels + 1

    monkeypatch.setattr(transforms, "photometric_distort", lambda image, rng: 255 - image)
    monkeypatch.setattr(transforms, "expand", lambda window, rng: Window(-10, -20, window.x2 + 70, window.y2 + 40))
    monkeypatch.setattr(transforms, "sample_crop", crop)
    monkeypatch.setattr(transforms, "random_interpolation", lambda rng: cv2.INTER_NEAREST_EXACT)
    expected = cv2.resize(image, (120, 60))
    corners = boxes * [1.5, 1, 1.5, 1]
    if augmentation == "ssd":
        canvas = np.full((30, 60, 3), (124, 116, 104), np.uint8)
        canvas[:, 10:] = 255 - image[:30, :50]
        expected, corners, labels = canvas.repeat(2, axis=0).repeat(2, axis=1), (boxes + [10, 0] * 2) * 2, labels + 1
    transform, outputs = TrainTransform((60, 120), augmentation, "caffe"), set()
    for seed in range(20):
        found = transform(image, boxes, np.array([3]), np.random.default_rng(seed))
        same = np.array_equal(found[0], normalize(expected, "caffe"))
        picture, moved = (expected, corners) if same else mirror(expected, corners)
        np.testing.assert_array_equal(found[0], normalize(picture, "caffe"))
        np.testing.assert_array_equal(found[1], moved)
        assert found[2].tolist() == labels.tolist()
        outputs.add(same)
    assert outputs == ({True} if augmentation == "none" else {True, False})


@given(annotated_images(), SEEDS, st.sampled_from(["ssd", "flip", "none"]))
@settings(max_examples=200)
def test_training_outputs_are_valid(annotated, seed, augmentation):
    image, boxes, labels = annotated
    tensor, moved, kept = TrainTransform((48, 64), augmentation)(image, boxes, labels, np.random.default_rng(seed))
    assert tensor.shape == (3, 48, 64) and tensor.dtype == np.float32
    assert denormalize(tensor).min() >= 0 and denormalize(tensor).max() <= 255
    assert moved.shape == (len(kept), 4) and moved.dtype == np.float32 and kept.dtype == np.int64
    assert (moved >= 0).all() and (moved <= [64, 48, 64, 48]).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert bool(len(moved)) == bool(len(boxes))
    if augmentation != "ssd":
        assert kept.tolist() == labels.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_images_one_pixel_wide_work(shape):
    height, width = shape
    for seed in range(50):
        tensor, boxes, _ = TrainTransform((32, 32))(
            noise_image(height, width),
            np.array([[0, 0, width, height]], np.float32),
            np.array([0]),
            np.random.default_rng(seed),
        )
        assert tensor.shape == (3, 32, 32) and len(boxes) == 1


def test_only_the_seed_decides():
    arguments = noise_image(60, 80), np.array([[5, 5, 60, 50], [30, 10, 75, 55]], np.float32), np.array([0, 1])
    transform = TrainTransform((48, 64))
    tensors = []
    for seed in range(10):
        np.random.seed(seed)  # noqa: NPY002 - the global state must not matter
        first = transform(*arguments, np.random.default_rng(seed))
        second = pickle.loads(pickle.dumps(transform))(*arguments, np.random.default_rng(seed))
        for a, b in zip(first, second):
            np.testing.assert_array_equal(a, b)
        tensors.append(first[0].tobytes())
    assert len(set(tensors)) == 10


def test_flip_happens_half_of_the_time():
    image, boxes = image_of_box(10, 10, (0, 0, 4, 10))
    transform, rng = TrainTransform((10, 10), "flip"), np.random.default_rng(0)
    flipped = sum(transform(image, boxes, np.array([0]), rng)[1][0, 0] > 0 for _ in range(1000))
    assert 430 < flipped < 570


def test_boxes_beyond_the_image_are_cut_off_or_left_out_before_anything_else():
    boxes = np.array([[-5, -5, 40, 40], [90, 90, 99, 99], [10, 10, 10, 20], [-20, 0, 10, 30]], np.float32)
    _, moved, labels = TrainTransform((30, 60), "none")(
        noise_image(30, 30), boxes, np.arange(4), np.random.default_rng(0)
    )
    assert moved.tolist() == [[0, 0, 60, 30]] and labels.tolist() == [0]


@pytest.mark.parametrize(
    "size, augmentation, message",
    [
        ((512, 0), "ssd", "size"),
        ((512,), "ssd", "size"),
        ((512, 512), "SSD", "one of ssd, flip, none"),
    ],
)
def test_bad_settings_are_refused(size, augmentation, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(size, augmentation)


@pytest.mark.parametrize(
    "width, height, shorter, longest, resized, padded",
    [
        (500, 375, 600, 1000, (800, 600), (800, 608)),
        (375, 500, 600, 1000, (600, 800), (608, 800)),
        (1000, 300, 600, 1000, (1000, 300), (1024, 320)),
        (2000, 300, 600, 1000, (1000, 150), (1024, 160)),
        (500, 333, 500, 833, (751, 500), (768, 512)),
        (500, 250, 500, 833, (833, 416), (864, 416)),
        (1, 3000, 600, 1000, (1, 1000), (32, 1024)),
    ],
)
def test_test_sizes(width, height, shorter, longest, resized, padded):
    image = np.full((height, width, 3), 255, np.uint8)
    transform = EvalTransform(shorter, longest)
    tensor, scale = transform(image), transform.scale(height, width)
    assert tensor.shape == (3, padded[1], padded[0]) and tensor.dtype == np.float32
    assert scale.dtype == np.float32
    np.testing.assert_allclose(scale, [resized[0] / width, resized[1] / height], rtol=1e-6)
    assert (tensor[:, : resized[1], : resized[0]] > 2).all()
    assert (tensor[:, resized[1] :] == 0).all() and (tensor[:, :, resized[0] :] == 0).all()


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 200), st.integers(0, 200), st.sampled_from([1, 32, 128])
)
@settings(max_examples=100)
def test_test_inputs_respect_their_limits(width, height, shorter, extra, multiple):
    transform = EvalTransform(shorter, shorter + extra, multiple)
    tensor, scale = transform(np.zeros((height, width, 3), np.uint8)), transform.scale(height, width)
    assert tensor.shape[1] % multiple == 0 and tensor.shape[2] % multiple == 0
    sides = sorted(np.rint(scale * [width, height]).astype(int))
    assert sides[1] <= shorter + extra
    assert sides[0] == shorter or sides[1] == shorter + extra
    assert (sides <= np.sort(tensor.shape[1:])).all() and (np.sort(tensor.shape[1:]) < np.array(sides) + multiple).all()


def test_warped_test_inputs_are_what_training_sees():
    image, boxes = image_of_box(300, 401, (50, 60, 250, 222))
    transform = EvalTransform(224, 999, warp=True)
    tensor, scale = transform(image), transform.scale(300, 401)
    expected, warped, _ = TrainTransform((224, 224), "none")(
        image, boxes, np.zeros(1, np.int64), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(tensor, expected)
    np.testing.assert_allclose(boxes * np.tile(scale, 2), warped, rtol=1e-5)


def test_dividing_by_the_scale_returns_to_the_image():
    image, boxes = image_of_box(300, 401, (50, 60, 250, 222))
    transform = EvalTransform(600, 1000)
    tensor, scale = transform(image), transform.scale(300, 401)
    found = np.array(lit_box(denormalize(tensor)[:600, :802]))
    np.testing.assert_allclose(found / np.tile(scale, 2), boxes[0], atol=1)


@pytest.mark.parametrize("arguments", [(600, 500), (0, 500), (600, 1000, 0)])
def test_bad_test_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="shorter"):
        EvalTransform(*arguments)
