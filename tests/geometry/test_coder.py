"""Deltas by hand, there and back, and in the extreme."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aploss_mx.geometry.coder import decode, encode

ANCHOR = np.array([[0, 0, 10, 20]], np.float32)  # centre (5, 10)
BOX = np.array([[-4, 3, 16, 13]], np.float32)  # centre (6, 8), twice as wide and half as high
LOG_2 = 0.6931472

PLACES = st.floats(-1000, 1000, width=32)
SIDES = st.floats(8, 400, width=32)


@st.composite
def boxes(draw, count: int):
    corners = []
    for _ in range(count):
        x, y, width, height = draw(PLACES), draw(PLACES), draw(SIDES), draw(SIDES)
        corners.append([x, y, x + width, y + height])
    return np.array(corners, np.float32)


def test_deltas_by_hand():
    deltas = encode(BOX, ANCHOR)
    np.testing.assert_allclose(deltas, [[1, -1, LOG_2 / 0.2, -LOG_2 / 0.2]], rtol=1e-6)
    assert deltas.dtype == np.float32


def test_boxes_by_hand():
    decoded = decode(np.array([[1, -1, LOG_2 / 0.2, -LOG_2 / 0.2]], np.float32), ANCHOR)
    np.testing.assert_allclose(decoded, BOX, rtol=1e-5)
    assert decoded.dtype == np.float32


def test_an_anchor_itself_has_zero_deltas():
    np.testing.assert_array_equal(encode(ANCHOR, ANCHOR), np.zeros((1, 4)))
    np.testing.assert_array_equal(decode(np.zeros((1, 4), np.float32), ANCHOR), ANCHOR)


@given(boxes(3), boxes(3))
def test_decode_inverts_encode(objects, anchors):
    np.testing.assert_allclose(decode(encode(objects, anchors), anchors), objects, rtol=1e-4, atol=0.01)


@given(boxes(1), boxes(1), st.integers(-512, 512), st.sampled_from([0.5, 2, 4]))
def test_deltas_do_not_see_a_common_shift_or_scale(objects, anchors, shift, scale):
    deltas = encode(objects, anchors)
    np.testing.assert_allclose(encode(objects * scale, anchors * scale), deltas, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(encode(objects + shift, anchors + shift), deltas, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("size", [50, 1e4, 1e20])
def test_huge_deltas_stay_finite_boxes(size):
    signs = np.array([[a, b, c, d] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        decoded = decode(np.float32(size) * signs, np.repeat(ANCHOR, 16, axis=0))
    assert np.isfinite(decoded).all() and (decoded[:, 2:] >= decoded[:, :2]).all()


def test_no_box_is_more_than_62_and_a_half_times_its_anchor():
    np.testing.assert_allclose(
        decode(np.array([[0, 0, 1e6, 1e6]], np.float32), ANCHOR),
        [[5 - 312.5, 10 - 625, 5 + 312.5, 10 + 625]],
        rtol=1e-5,
    )


def test_no_boxes_no_deltas():
    nothing = np.zeros((0, 4), np.float32)
    assert encode(nothing, nothing).shape == (0, 4)
    assert decode(nothing, nothing).shape == (0, 4)
