"""Boxes move with the pixels of a window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_images import image_of_box, lit_box, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st

from aploss_mx.data.pixels import MEAN_COLOUR, normalize
from aploss_mx.data.ssd import INTERPOLATIONS
from aploss_mx.data.windows import Window, clip_to_window, resize_window


def test_clipping_leaves_out_boxes_without_area_or_outside():
    boxes = np.array(
        [[5, 5, 5, 9], [5, 9, 8, 9], [-9, 0, 4, 5], [-2, -2, 4, 4], [0, 0, 10, 10], [8, 8, 13, 13]], np.float32
    )
    kept, labels = clip_to_window(boxes, np.arange(6), Window(0, 0, 10, 10))
    assert labels.tolist() == [3, 4]
    assert kept.tolist() == [[0, 0, 4, 4], [0, 0, 10, 10]] and kept.dtype == np.float32


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("window", [(0, 0, 90, 70), (10, 5, 77, 63), (-31, -90, 230, 111), (-20, 11, 85, 200)])
@pytest.mark.parametrize("size", [(64, 96), (128, 128), (301, 157)])
def test_resized_boxes_stay_on_their_pixels(interpolation, window, size):
    image, boxes = image_of_box(70, 90, (22, 15, 71, 52))
    resized, moved = resize_window(image, boxes, Window(*window), size, interpolation)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8 and moved.dtype == np.float32
    np.testing.assert_allclose(lit_box(resized), moved[0], atol=1)


@given(st.data())
@settings(max_examples=100)
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


@pytest.mark.parametrize(("pixels", "rounding"), [("torchvision", 0.01), ("caffe", 1.5)])
def test_what_surrounds_an_image_is_0_to_the_network(pixels, rounding):
    image, boxes = np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.float32)
    rendered, _ = resize_window(image, boxes, Window(0, 0, 8, 4), (4, 8), cv2.INTER_LINEAR)
    assert np.abs(normalize(rendered, pixels)[:, :, 4:]).max() < rounding


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
