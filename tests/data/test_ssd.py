"""SSD's augmentation: colours against pixelwise formulas, windows against their constraints, draws by their odds."""

from __future__ import annotations

import colorsys
from collections import Counter

import numpy as np
import pytest
from drawn_images import SEEDS, annotated_images, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.data import ssd
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
from aploss_mx.data.windows import Window


def iou_of(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return intersection / (sum(areas) - intersection)


def centre_inside(box, window):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window.x1 < x < window.x2 and window.y1 < y < window.y2


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

    coins = [0.1, 0.1, 0.1 if contrast_first else 0.9, 0.1, 0.1, 0.1]
    distorted = photometric_distort(image, ScriptedGenerator(fraction, coins))
    assert distorted.dtype == np.uint8
    errors = np.abs(distorted - expected)
    # Rounding before the HSV stage moves hue and saturation of dark pixels, where they are ill-defined.
    assert errors.mean() < 0.6 and np.quantile(errors, 0.99) < 2


def test_without_heads_nothing_changes_colours_and_lighting_has_a_coin_of_its_own():
    colours = noise_image(20, 37)
    distorted = photometric_distort(colours, ScriptedGenerator(1.0, [0.9] * 6))
    np.testing.assert_array_equal(distorted, colours)
    grey = np.full((2, 2, 3), 100, np.uint8)
    distorted = photometric_distort(grey, ScriptedGenerator(1.0, [0.9] * 5 + [0.1]))
    np.testing.assert_array_equal(distorted, np.broadcast_to([96, 97, 97], (2, 2, 3)))  # 100 - (3.81, 3.26, 2.55)


@pytest.mark.parametrize("saturation_alone", [True, False])
def test_saturation_and_hue_change_without_each_other(saturation_alone):
    colours = noise_image(20, 37)
    coins = [0.9, 0.9, 0.9, *((0.1, 0.9) if saturation_alone else (0.9, 0.1)), 0.9]
    distorted = photometric_distort(colours, ScriptedGenerator(1.0, coins))
    expected = pixelwise_saturation_and_hue(colours, *((1.5, 0) if saturation_alone else (1, 18)))
    np.testing.assert_allclose(distorted, expected, atol=0.51)


def test_lighting_noise_comes_half_of_the_time(monkeypatch):
    """It alone tints a grey picture."""
    monkeypatch.setattr(ssd, "PCA_EIGENVALUES", np.array([0, 100, 0]))  # from red to blue, and no rounding hides it
    grey = np.full((2, 2, 3), 128, np.uint8)
    tinted = [np.ptp(photometric_distort(grey, np.random.default_rng(seed))[0, 0]) > 0 for seed in range(1000)]
    assert 0.45 < np.mean(tinted) < 0.55


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
    places = np.array([(-w.x1 / (w.width - 100), -w.y1 / (w.height - 60)) for w in moved if w.width > 200])
    np.testing.assert_allclose(np.quantile(places, [0, 0.5, 1], axis=0), [[0, 0], [0.5, 0.5], [1, 1]], atol=0.06)
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.1


@given(
    annotated_images(min_boxes=1),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from([0.0, 0.1, 0.3, 0.7]),
    SEEDS,
)
@settings(max_examples=150)
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


@pytest.mark.parametrize(("width", "height"), [(30_000, 10_000), (10_000, 10_000)])
def test_crops_are_of_any_allowed_shape_anywhere_in_the_window(width, height):
    """Each side is uniform, given the aspect ratio, and so is the place, whatever the size."""
    window = Window(500, -700, 500 + width, height - 700)
    quarters = np.arange(1, 8, 2) / 8  # each crop, 0.3 high or more, holds a box's centre
    centres = np.stack(np.meshgrid(500 + width * quarters, -700 + height * quarters), axis=-1).reshape(-1, 2)
    boxes = np.hstack([centres - 5, centres + 5]).astype(np.float32)
    rng = np.random.default_rng(0)
    crops = np.array([crop_with_min_iou(window, boxes, 0.0, rng) for _ in range(1500)]) - [500, -700] * 2
    sides, whole = crops[:, 2:] - crops[:, :2], np.array([width, height])
    drawn = rng.uniform(0.3, 1, (10**5, 2)) * whole
    ratios = drawn[:, 0] / drawn[:, 1]
    allowed = drawn[(ratios >= 0.5) & (ratios <= 2)]
    quantiles = np.linspace(0, 1, 9)
    for ours, theirs in zip((*sides.T / whole[:, None], sides[:, 0] / sides[:, 1]),
                            (*allowed.T / whole[:, None], allowed[:, 0] / allowed[:, 1])):  # fmt: skip
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.06)
    starts = crops[:, :2] / (whole - sides)
    np.testing.assert_allclose(np.quantile(starts, quantiles, axis=0), np.stack([quantiles] * 2, axis=1), atol=0.06)
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.1


def test_a_crop_has_fifty_tries():
    """A crop of sides u, v meets an IoU of 0.9 with a box as large as the window where uv is 0.9 or more."""
    boxes = np.array([[0, 0, 10_000, 10_000]], np.float32)
    once = (0.1 + 0.9 * np.log(0.9)) / 0.7**2
    met = [crop_with_min_iou(Window(0, 0, 10_000, 10_000), boxes, 0.9, np.random.default_rng(s)) for s in range(3000)]
    assert np.mean([crop is not None for crop in met]) == pytest.approx(1 - (1 - once) ** 50, abs=0.04)


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
@settings(max_examples=150)
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


def test_every_interpolation_is_drawn():
    rng = np.random.default_rng(0)
    counts = Counter(random_interpolation(rng) for _ in range(1000))
    assert set(counts) == set(INTERPOLATIONS) and len(counts) == 5 and min(counts.values()) > 150
