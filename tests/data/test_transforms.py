"""Boxes move as pixels do, random draws obey their seed and SSD's rules, and unreadable files are named."""

from __future__ import annotations

import colorsys
import pickle
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from aploss_mx.data import ssd, transforms
from aploss_mx.data.pixels import MEAN_COLOUR, PIXELS, normalize, read_image
from aploss_mx.data.ssd import (
    CROP_MIN_IOUS,
    INTERPOLATIONS,
    adjust_saturation_and_hue,
    crop_with_min_iou,
    expand,
    photometric_distort,
    random_interpolation,
    sample_crop,
)
from aploss_mx.data.transforms import EvalTransform, TrainTransform, mirror
from aploss_mx.data.windows import Window, clip_to_window, resize_window

SEEDS = st.integers(0, 2**32 - 1)


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image_of_box(height, width, box):
    """A dark image whose red channel alone is lit inside a box with integer corners."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2, 0] = 255
    return image, np.array([box], np.float32)


def lit_box(image):
    """The corners of what `image_of_box` lit; the mean colour's red of 124 stays below the threshold."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def denormalize(tensor):
    _, mean, std = PIXELS["torchvision"]
    return np.rint(tensor.transpose(1, 2, 0) * std + mean)


@st.composite
def annotated_images(draw, min_boxes=0):
    """A noise image of 1 to 60 pixels a side, valid boxes in it and labels that number them."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    fractions = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(min_boxes, 5))):
        sides = 0.5 + draw(fractions) * (width - 0.5), 0.5 + draw(fractions) * (height - 0.5)
        x1, y1 = draw(fractions) * (width - sides[0]), draw(fractions) * (height - sides[1])
        boxes.append([x1, y1, x1 + sides[0], y1 + sides[1]])
    return (
        noise_image(height, width),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(len(boxes), dtype=np.int64),
    )


def iou_of(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return intersection / (sum(areas) - intersection)


def centre_inside(box, window):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window.x1 < x < window.x2 and window.y1 < y < window.y2


# ---- files


def jpeg_bytes(image):
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_a_jpeg_is_read_as_rgb(tmp_path):
    path = tmp_path / "red.jpg"
    path.write_bytes(jpeg_bytes(np.full((20, 30, 3), (250, 10, 20), np.uint8)))
    for argument in (path, str(path)):
        image = read_image(argument)
        assert image.shape == (20, 30, 3) and image.dtype == np.uint8 and image.flags.writeable
        np.testing.assert_allclose(image[10, 15], (250, 10, 20), atol=4)


@pytest.mark.parametrize(
    "mode, pixel, expected",
    [
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 5), (77, 77, 77)),
        ("RGBA", (10, 20, 30, 40), (10, 20, 30)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x4DFF, (0x4D, 0x4D, 0x4D)),
    ],
)
def test_other_pixel_formats_become_rgb(tmp_path, mode, pixel, expected):
    path = tmp_path / "image.png"
    Image.new(mode, (3, 2), pixel).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((2, 3, 3), expected, np.uint8))


def test_palettes_and_16_bit_colour_become_rgb(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = (200, 100, 50)
    Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), image)
    cv2.imwrite(str(tmp_path / "deep.png"), image[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), image)


def test_orientation_is_followed_only_on_request(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    path = tmp_path / "portrait.png"
    stored = noise_image(4, 6)
    Image.fromarray(stored).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), stored)
    np.testing.assert_array_equal(read_image(path, exif_orientation=True), np.rot90(stored, -1))


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = jpeg_bytes(noise_image(40, 40))
    contents = {"cut.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"not an image"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        read_image(tmp_path / "missing.jpg")


def test_a_cut_png_is_named(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(noise_image(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(OSError, match=r"cut\.png"):
        read_image(path)


def test_any_damage_is_either_harmless_or_named(tmp_path):
    """Pillow reports damage by exceptions of several types, depending on where it is."""
    path = tmp_path / "damaged.png"
    Image.fromarray(noise_image(40, 40)).save(path)
    whole = path.read_bytes()
    causes = set()
    for position in range(60):  # the header and the beginning of the pixels
        for value in (0, 7, 255):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                assert read_image(path).shape[2] == 3
            except OSError as error:
                causes.add(type(error.__cause__))
                assert "damaged.png" in str(error)
    assert len(causes) > 1


def test_an_image_too_large_to_trust_is_named(tmp_path, monkeypatch):
    Image.fromarray(noise_image(30, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")


# ---- colours


def test_normalize_is_the_published_formula():
    image = noise_image(3, 5)
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tensor = normalize(image)
    assert tensor.dtype == np.float32 and tensor.shape == (3, 3, 5) and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=1e-5)


def test_caffes_pixels_are_blue_first_and_not_scaled():
    image = noise_image(3, 5)
    tensor = normalize(image, "caffe")
    np.testing.assert_allclose(tensor[0], image[..., 2] - 102.9801, atol=1e-4)
    np.testing.assert_allclose(tensor[2], image[..., 0] - 122.7717, atol=1e-4)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    trained, _, _ = TrainTransform((3, 5), "none", "caffe")(image, boxes, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(trained, tensor)
    tested, _ = EvalTransform(3, 5, multiple=1, pixels="caffe")(image)
    np.testing.assert_array_equal(tested, tensor)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_normalize_refuses_what_is_no_rgb_image(image):
    with pytest.raises(ValueError, match="uint8"):
        normalize(image)


def pixelwise_saturation_and_hue(image, saturation, hue):
    pixels = []
    for pixel in image.reshape(-1, 3) / 255:
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        pixels.append(colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1), v))
    return np.array(pixels).reshape(image.shape) * 255


@pytest.mark.parametrize("saturation, hue", [(1, 0), (0.5, 0), (1.5, 0), (1, 18), (1, -18), (1.3, -7)])
def test_saturation_and_hue_agree_with_colorsys(saturation, hue):
    image = noise_image(20, 37)
    expected = pixelwise_saturation_and_hue(image, saturation, hue)
    np.testing.assert_allclose(adjust_saturation_and_hue(image, saturation, hue), expected, atol=0.51)


class ScriptedGenerator:
    """Draws a given fraction of every range, and given coins: below one half is heads."""

    def __init__(self, fraction, coins):
        self.fraction, self.coins = fraction, iter(coins)

    def uniform(self, low, high):
        return low + self.fraction * (high - low)

    def random(self):
        return next(self.coins)

    def normal(self, mean, deviation, size):
        return mean + deviation * np.array([1.0, -2.0, 0.5])[:size]


@pytest.mark.parametrize("contrast_first", [True, False])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8, 1.0])
def test_photometric_distortion_agrees_with_pixelwise_floats(fraction, contrast_first):
    image = noise_image(20, 37)
    brightness, factor, hue = -32 + 64 * fraction, 0.5 + fraction, -18 + 36 * fraction
    expected = np.clip(image + brightness, 0, 255)
    if contrast_first:
        expected = np.clip((image + brightness) * factor, 0, 255)
    expected = pixelwise_saturation_and_hue(expected, factor, hue)
    if not contrast_first:
        expected = expected * factor
    noise = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = np.clip(expected + noise @ [5.546, -2 * 0.4794, 0.5 * 0.1148], 0, 255)

    coins = [0.1, 0.1, 0.1 if contrast_first else 0.9, 0.1, 0.1]
    distorted = photometric_distort(image, ScriptedGenerator(fraction, coins))
    assert distorted.dtype == np.uint8
    errors = np.abs(distorted - expected)
    # Rounding before the HSV stage moves hue and saturation of dark pixels, where they are ill-defined.
    assert errors.mean() < 0.6 and np.quantile(errors, 0.99) < 2


def test_without_heads_only_lighting_changes_colours():
    grey = np.full((2, 2, 3), 100, np.uint8)
    distorted = photometric_distort(grey, ScriptedGenerator(1.0, [0.9] * 5))
    np.testing.assert_array_equal(distorted, np.broadcast_to([96, 97, 97], (2, 2, 3)))  # 100 - (3.81, 3.26, 2.55)


def test_colours_saturate_and_never_wrap_round():
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    saturated = Counter()
    for seed in range(300):
        levels = photometric_distort(ramp, np.random.default_rng(seed))[0].astype(int)
        assert (np.diff(levels, axis=0) >= 0).all()
        saturated[0] += (levels[:10] == 0).all()
        saturated[255] += (levels[-10:] == 255).all()
    assert saturated[0] > 10 and saturated[255] > 10


def test_each_colour_change_happens_half_of_the_time():
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    middles, slopes = [], []
    for seed in range(1000):
        levels = photometric_distort(ramp, np.random.default_rng(seed))[0].astype(float)
        slopes.append((levels[140] - levels[110]).mean() / 30)
        middles.append(levels[128].mean())
    slopes = np.array(slopes)
    assert slopes.min() > 0.45 and slopes.max() < 1.55
    assert 0.45 < np.mean(np.abs(slopes - 1) < 0.02) < 0.6
    assert np.max(middles) - np.min(middles) > 100


def test_the_input_image_is_left_alone():
    image, boxes, labels = noise_image(30, 40), np.array([[1, 2, 30, 20]], np.float32), np.array([3])
    copies = image.copy(), boxes.copy(), labels.copy()
    for seed in range(20):
        TrainTransform((32, 32))(image, boxes, labels, np.random.default_rng(seed))
    for array, copy in zip((image, boxes, labels), copies):
        np.testing.assert_array_equal(array, copy)


# ---- windows


def test_expand_happens_half_of_the_time_and_stays_within_its_bounds():
    window = Window(0, 0, 100, 60)
    rng = np.random.default_rng(0)
    expanded = [expand(window, rng) for _ in range(2000)]
    moved = [w for w in expanded if w != window]
    assert 900 < len(moved) < 1100
    for w in moved:
        assert w.x1 <= 0 and w.y1 <= 0 and w.x2 >= 100 and w.y2 >= 60
        assert 1 <= w.width / 100 <= 4 and abs(w.width / 100 - w.height / 60) < 0.02
    ratios = np.array([w.width / 100 for w in moved])
    np.testing.assert_allclose(np.quantile(ratios, [0, 0.5, 1]), [1, 2.5, 4], atol=0.15)
    lefts = np.array([-w.x1 / (w.width - 100) for w in moved if w.width > 200])
    np.testing.assert_allclose(np.quantile(lefts, [0, 0.5, 1]), [0, 0.5, 1], atol=0.06)


@given(
    annotated_images(min_boxes=1),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from([0.0, 0.1, 0.3, 0.7]),
    SEEDS,
)
@settings(max_examples=150, deadline=None)
def test_crops_meet_their_constraints(annotated, margin_x, margin_y, min_iou, seed):
    image, boxes, _ = annotated
    window = Window(-margin_x, -margin_y, image.shape[1] + margin_x // 2, image.shape[0] + margin_y // 2)
    crop = crop_with_min_iou(window, boxes, min_iou, np.random.default_rng(seed))
    if crop is None:
        return
    assert window.x1 <= crop.x1 < crop.x2 <= window.x2 and window.y1 <= crop.y1 < crop.y2 <= window.y2
    assert crop.width > 0.3 * window.width - 1 and crop.height > 0.3 * window.height - 1
    assert (crop.width + 1) / (crop.height - 1 or 0.5) >= 0.5 and (crop.height + 1) / (crop.width - 1 or 0.5) >= 0.5
    assert max(iou_of(crop, box) for box in boxes.tolist()) >= min_iou - 1e-6
    assert any(centre_inside(box, crop) for box in boxes)


def test_a_constraint_out_of_reach_gives_no_crop():
    tiny = np.array([[10, 10, 14, 14]], np.float32)
    rng = np.random.default_rng(0)
    assert crop_with_min_iou(Window(0, 0, 400, 400), tiny, 0.1, rng) is None
    assert crop_with_min_iou(Window(0, 0, 1, 400), np.array([[0, 0, 1, 400]], np.float32), 0.0, rng) is None  # aspect


def test_one_box_is_enough_to_meet_the_constraint():
    boxes = np.array([[0, 0, 100, 100], [2, 2, 4, 4]], np.float32)
    crops = [crop_with_min_iou(Window(0, 0, 100, 100), boxes, 0.7, np.random.default_rng(s)) for s in range(20)]
    assert any(crops)


def test_every_kind_of_crop_is_drawn_alike(monkeypatch):
    drawn = Counter()

    def remember(window, boxes, min_iou, rng):
        drawn[min_iou] += 1
        return window

    monkeypatch.setattr(ssd, "crop_with_min_iou", remember)
    window, boxes, labels = Window(0, 0, 100, 100), np.array([[0, 0, 100, 100]], np.float32), np.array([0])
    for seed in range(1200):
        sample_crop(window, boxes, labels, np.random.default_rng(seed))
    assert set(drawn) == set(CROP_MIN_IOUS) - {None} == {0.0, 0.1, 0.3, 0.7, 0.9}
    assert all(150 < count < 250 for count in drawn.values())
    assert 950 < sum(drawn.values()) < 1050  # the rest took the whole window


@given(annotated_images(), SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_crop_keeps_exactly_the_objects_centred_in_it(annotated, seed):
    image, boxes, labels = annotated
    rng = np.random.default_rng(seed)
    window = expand(Window(0, 0, image.shape[1], image.shape[0]), rng)
    crop, kept, kept_labels = sample_crop(window, boxes, labels, rng)
    assert kept_labels.tolist() == [i for i, box in enumerate(boxes) if centre_inside(box, crop)]
    assert bool(len(kept)) == bool(len(boxes))
    for box, label in zip(kept, kept_labels):
        x1, y1, x2, y2 = boxes[label]
        assert box.tolist() == [max(x1, crop.x1), max(y1, crop.y1), min(x2, crop.x2), min(y2, crop.y2)]


def test_clipping_leaves_out_boxes_without_area_or_outside():
    boxes = np.array(
        [[5, 5, 5, 9], [5, 9, 8, 9], [-9, 0, 4, 5], [-2, -2, 4, 4], [0, 0, 10, 10], [8, 8, 13, 13]], np.float32
    )
    kept, labels = clip_to_window(boxes, np.arange(6), Window(0, 0, 10, 10))
    assert labels.tolist() == [3, 4]
    assert kept.tolist() == [[0, 0, 4, 4], [0, 0, 10, 10]] and kept.dtype == np.float32


# ---- geometry: boxes against pixels


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("window", [(0, 0, 90, 70), (10, 5, 77, 63), (-31, -90, 230, 111), (-20, 11, 85, 200)])
@pytest.mark.parametrize("size", [(64, 96), (128, 128), (301, 157)])
def test_resized_boxes_stay_on_their_pixels(interpolation, window, size):
    image, boxes = image_of_box(70, 90, (22, 15, 71, 52))
    resized, moved = resize_window(image, boxes, Window(*window), size, interpolation)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8 and moved.dtype == np.float32
    np.testing.assert_allclose(lit_box(resized), moved[0], atol=1)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_rendered_window_is_the_crop_of_the_padded_image(data):
    """At scale 1 the window must agree with building the canvas and slicing it."""
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    x1, y1 = data.draw(st.integers(-15, width - 1)), data.draw(st.integers(-15, height - 1))
    x2, y2 = data.draw(st.integers(max(x1, 0) + 1, 35)), data.draw(st.integers(max(y1, 0) + 1, 35))
    image = noise_image(height, width)
    canvas = np.full((60, 60, 3), MEAN_COLOUR, np.uint8)
    canvas[20 : 20 + height, 20 : 20 + width] = image
    boxes = np.array([[0, 0, width, height]], np.float32)
    rendered, moved = resize_window(image, boxes, Window(x1, y1, x2, y2), (y2 - y1, x2 - x1), cv2.INTER_LINEAR)
    np.testing.assert_array_equal(rendered, canvas[20 + y1 : 20 + y2, 20 + x1 : 20 + x2])
    np.testing.assert_array_equal(moved, boxes - [x1, y1, x1, y1])


@pytest.mark.parametrize(
    "window, expected",
    [((-999, 0, 1, 50), [59, 0, 60, 50]), ((49, 0, 1049, 50), [0, 0, 1, 50]), ((0, 49, 50, 3000), [0, 0, 60, 1])],
)
def test_a_sliver_of_the_image_gets_a_pixel(window, expected):
    image = np.full((50, 50, 3), 255, np.uint8)
    visible = np.array([np.clip(window, 0, 50)], np.float32)
    rendered, moved = resize_window(image, visible, Window(*window), (50, 60), cv2.INTER_AREA)
    assert lit_box(rendered) == moved[0].tolist() == expected


def test_resizing_there_and_back_returns_the_boxes():
    image, boxes = noise_image(33, 47), np.array([[0, 0, 47, 33], [1.5, 2.25, 30.75, 20]], np.float32)
    larger, moved = resize_window(image, boxes, Window(0, 0, 47, 33), (66, 94), cv2.INTER_NEAREST_EXACT)
    back, returned = resize_window(larger, moved, Window(0, 0, 94, 66), (33, 47), cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(back, image)
    np.testing.assert_allclose(returned, boxes, atol=1e-5)


def test_mirroring_moves_boxes_with_pixels_and_twice_is_the_identity():
    image, boxes = image_of_box(20, 30, (3, 4, 11, 17))
    mirrored, moved = mirror(image, boxes)
    assert lit_box(mirrored) == moved[0].tolist() == [19, 4, 27, 17]
    twice, returned = mirror(mirrored, moved)
    np.testing.assert_array_equal(twice, image)
    np.testing.assert_array_equal(returned, boxes)


def test_every_interpolation_is_drawn():
    rng = np.random.default_rng(0)
    counts = Counter(random_interpolation(rng) for _ in range(1000))
    assert set(counts) == set(INTERPOLATIONS) and len(counts) == 5 and min(counts.values()) > 150


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


# ---- the training transform as a whole


@given(annotated_images(), SEEDS, st.sampled_from(["ssd", "flip", "none"]))
@settings(max_examples=200, deadline=None)
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


def test_boxes_beyond_the_image_are_cut_off_before_anything_else():
    boxes = np.array([[-5, -5, 40, 40], [90, 90, 99, 99], [10, 10, 10, 20]], np.float32)
    _, moved, labels = TrainTransform((30, 60), "none")(
        noise_image(30, 30), boxes, np.arange(3), np.random.default_rng(0)
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


# ---- the test-time transform


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
    tensor, scale = EvalTransform(shorter, longest)(image)
    assert tensor.shape == (3, padded[1], padded[0]) and tensor.dtype == np.float32
    assert scale.dtype == np.float32
    np.testing.assert_allclose(scale, [resized[0] / width, resized[1] / height], rtol=1e-6)
    assert (tensor[:, : resized[1], : resized[0]] > 2).all()
    assert (tensor[:, resized[1] :] == 0).all() and (tensor[:, :, resized[0] :] == 0).all()


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 200), st.integers(0, 200), st.sampled_from([1, 32, 128])
)
@settings(max_examples=100, deadline=None)
def test_test_inputs_respect_their_limits(width, height, shorter, extra, multiple):
    tensor, scale = EvalTransform(shorter, shorter + extra, multiple)(np.zeros((height, width, 3), np.uint8))
    assert tensor.shape[1] % multiple == 0 and tensor.shape[2] % multiple == 0
    sides = sorted(np.rint(scale * [width, height]).astype(int))
    assert sides[1] <= shorter + extra
    assert sides[0] == shorter or sides[1] == shorter + extra
    assert (sides <= np.sort(tensor.shape[1:])).all() and (np.sort(tensor.shape[1:]) < np.array(sides) + multiple).all()


def test_warped_test_inputs_are_what_training_sees():
    image, boxes = image_of_box(300, 401, (50, 60, 250, 222))
    tensor, scale = EvalTransform(224, 999, warp=True)(image)
    expected, warped, _ = TrainTransform((224, 224), "none")(
        image, boxes, np.zeros(1, np.int64), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(tensor, expected)
    np.testing.assert_allclose(boxes * np.tile(scale, 2), warped, rtol=1e-5)


def test_dividing_by_the_scale_returns_to_the_image():
    image, boxes = image_of_box(300, 401, (50, 60, 250, 222))
    tensor, scale = EvalTransform(600, 1000)(image)
    found = np.array(lit_box(denormalize(tensor)[:600, :802]))
    np.testing.assert_allclose(found / np.tile(scale, 2), boxes[0], atol=1)


@pytest.mark.parametrize("arguments", [(600, 500), (0, 500), (600, 1000, 0)])
def test_bad_test_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="shorter"):
        EvalTransform(*arguments)


def test_a_cut_image_is_refused_whatever_gluoncv_set(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"a\.png"):
        read_image(tmp_path / "a.png")
