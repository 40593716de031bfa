"""Pictures with detections, and contact sheets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from aploss_mx.data.pixels import read_image
from aploss_mx.geometry.detections import Detections
from aploss_mx.report.draw import (
    LEGIBLE,
    TILE,
    annotate,
    class_color,
    contact_sheet,
    draw_detections,
    has_format,
    tile,
    write_picture,
)

CLASSES = ("dog", "cat")


def grey(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(image: np.ndarray) -> np.ndarray:
    return np.any(image != 128, axis=2)


def relative_luminance(color: np.ndarray) -> float:
    """WCAG 2.1's definition, channel by channel."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(color) / 255]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---- detections ----


def test_the_edges_have_the_colour_of_the_class_and_the_inside_is_left():
    image = grey()
    drawn = draw_detections(image, [[100, 50, 220, 150]], [1], None, CLASSES)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert np.all(image == 128)
    for row, column in ((100, 100), (100, 219), (50, 200), (149, 160)):
        assert tuple(drawn[row, column]) == class_color(1)
    assert not changed(drawn)[55:145, 105:215].any()


def test_the_first_and_last_pixel_of_the_box_are_its_edge():
    drawn = draw_detections(grey(100, 100), [[0, 0, 100, 100]], [0], None, CLASSES)
    assert tuple(drawn[50, 0]) == tuple(drawn[50, 99]) == tuple(drawn[99, 50]) == class_color(0)


def test_lines_and_text_grow_with_the_picture():
    def line_and_caption_height(scale):
        boxes = np.array([[100, 90, 220, 150]]) * scale
        drawn = draw_detections(grey(200 * scale, 300 * scale), boxes, [0], None, CLASSES)
        in_color = np.all(drawn == class_color(0), axis=2)
        return in_color[120 * scale, : 160 * scale].sum(), in_color[: 90 * scale, 100 * scale].sum()

    line, caption = line_and_caption_height(1)
    large_line, large_caption = line_and_caption_height(8)
    assert large_line > 4 * line
    assert large_caption > 4 * caption


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_without_a_name_are_refused(label):
    """Such as GluonCV's -1 of rows that hold no box."""
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, got "):
        draw_detections(grey(), np.zeros((2, 4)), np.array([label, 1]), None, CLASSES)


def test_no_boxes_change_nothing():
    for scores in (None, np.zeros(0)):
        drawn = draw_detections(grey(), np.zeros((0, 4)), np.zeros(0, int), scores, CLASSES)
        assert not changed(drawn).any()


def test_the_highest_score_lies_on_top_in_whatever_order_boxes_come():
    boxes, labels, scores = np.array([[50, 50, 150, 150], [50, 50, 150, 150]]), np.array([0, 1]), np.array([0.9, 0.3])
    drawn = draw_detections(grey(), boxes, labels, scores, CLASSES)
    assert tuple(drawn[100, 50]) == class_color(0)
    assert np.array_equal(drawn, draw_detections(grey(), boxes, labels[::-1], scores[::-1], CLASSES))


def test_scores_are_written():
    boxes = [[50, 50, 150, 150]]
    with_scores = [draw_detections(grey(), boxes, [0], [score], CLASSES) for score in (0.31, 0.87)]
    assert changed(with_scores[0]).sum() > changed(draw_detections(grey(), boxes, [0], None, CLASSES)).sum()
    assert not np.array_equal(*with_scores)


def test_captions_make_room_for_each_other():
    boxes, names = np.array([[50, 100, 200, 180], [52, 102, 202, 182]]), ["www", "www"]
    drawn = draw_detections(grey(), boxes, [0, 1], [0.9, 0.8], names)
    above_the_boxes = drawn[88:98]
    for label in (0, 1):
        assert np.all(above_the_boxes == class_color(label), axis=2).sum() > 100


def test_where_captions_find_no_room_the_highest_score_is_readable():
    boxes, labels = np.array([[50, 100, 150, 160]] * 9), np.arange(9)
    drawn = draw_detections(grey(), boxes, labels, 0.9 - 0.1 * labels, ["www"] * 9)
    alone = draw_detections(grey(), boxes[:1], labels[:1], [0.9], ["www"] * 9)
    caption = np.s_[90:98, 52:80]
    assert changed(alone)[caption].all()
    assert np.array_equal(drawn[caption], alone[caption])


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ([-50, -50, 90, 160], [0, 0, 90, 160]),
        ([250, 150, 400, 300], [250, 150, 300, 200]),
        ([-1e9, 90, 1e9, 110], [0, 90, 300, 110]),
        ([299.6, 0, 310, 199], [299, 0, 300, 199]),
    ],
)
def test_boxes_partly_outside_are_drawn_as_their_part_inside(box, inside):
    drawn = draw_detections(grey(), [box], [0], [0.5], CLASSES)
    assert changed(drawn).any()
    assert np.array_equal(drawn, draw_detections(grey(), [inside], [0], [0.5], CLASSES))


@pytest.mark.parametrize("box", [[-50, 10, -1, 60], [300, 10, 350, 60], [10, -50, 60, -1], [10, 200, 60, 250]])
def test_boxes_wholly_outside_are_not_drawn(box):
    assert not changed(draw_detections(grey(), [box], [0], [0.5], CLASSES)).any()


def test_boxes_without_area_are_drawn_where_they_stand():
    drawn = draw_detections(grey(), [[100, 50, 100, 150]], [0], None, CLASSES)
    assert tuple(drawn[120, 100]) == class_color(0)
    assert not changed(drawn)[:, 150:].any()


@pytest.mark.parametrize("box", [[0, 0, 40, 40], [270, 0, 300, 40], [0, 180, 300, 200], [295, 195, 300, 200]])
def test_captions_stay_inside_the_picture_whole(box):
    name = "rather long name"
    caption = draw_detections(grey(), [[100, 80, 140, 120]], [0], None, [name])[:79, 100:]
    rows, columns = np.nonzero(changed(caption))
    caption = caption[rows.min() :, : columns.max() + 1]
    assert caption.shape[1] > 50
    at_an_edge = draw_detections(grey(), [box], [0], None, [name])
    assert cv2.matchTemplate(at_an_edge, caption, cv2.TM_SQDIFF).min() == 0


def test_a_caption_wider_than_the_picture_is_written_smaller():
    drawn = draw_detections(grey(40, 60), [[5, 20, 50, 38]], [0], None, ["three toed sloth"])
    assert np.all(drawn == class_color(0), axis=2)[:20].any(axis=0).sum() < 60


@settings(max_examples=60, deadline=None)
@given(
    boxes=npst.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(4)), elements=st.floats(-1e6, 1e6, width=32)),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_any_finite_boxes_on_any_picture(boxes, height, width, seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, len(boxes)), rng.random(len(boxes))
    image = grey(height, width)
    assert draw_detections(image, boxes, labels, scores, CLASSES).shape == image.shape
    assert np.all(image == 128)


def test_read_only_pictures_and_views_are_accepted():
    image = grey()[:, ::-1]
    image.setflags(write=False)
    assert changed(draw_detections(image, [[10, 10, 90, 90]], [0], None, CLASSES)).any()


# ---- sizes ----


@pytest.mark.parametrize(("shape", "factor"), [((50, 100), 3), ((100, 50), 3), ((161, 20), 1), ((20, 161), 1)])
def test_pictures_are_enlarged_while_their_longer_side_stays_legible(shape, factor):
    found = Detections(np.float32([[2, 4, 12, 14], [0, 0, 9, 9]]), np.float32([0.5, 0.4]), np.array([0, 1]))
    drawn = annotate(grey(*shape), found, CLASSES, min_score=0.5)
    assert drawn.shape == (shape[0] * factor, shape[1] * factor, 3) and max(drawn.shape) <= LEGIBLE
    boxes = np.array([[2, 4, 12, 14]]) * factor
    np.testing.assert_array_equal(drawn, draw_detections(grey(*drawn.shape[:2]), boxes, [0], [0.5], CLASSES))


def test_what_scores_enough_is_captioned_with_its_confidence():
    boxes, labels = np.float32([[20, 60, 120, 160], [200, 60, 300, 160]]), np.array([0, 1])
    scores, confidence = np.float32([0.5, 0.4]), np.float32([0.31, 0.87])
    drawn = annotate(grey(400, 400), Detections(boxes, scores, labels, confidence), CLASSES, min_score=0.5)
    np.testing.assert_array_equal(drawn, draw_detections(grey(400, 400), boxes[:1], [0], confidence[:1], CLASSES))


def test_whatever_a_detector_takes_can_be_annotated(shared_data):
    file = shared_data / "demo" / "dog.jpg"
    found = Detections(np.float32([[9, 9, 99, 99]]), np.ones(1), np.zeros(1, int))
    drawn = [annotate(image, found, CLASSES) for image in (file, str(file), Image.open(file), read_image(file))]
    assert (drawn[0] != read_image(file)).any()
    assert all((one == drawn[0]).all() for one in drawn)
    with pytest.raises(ValueError, match="images must be RGB"):
        annotate(np.zeros((9, 9)), found, CLASSES)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, got 2\.\.2"):
        annotate(file, Detections(found.boxes, found.scores, np.array([2])), CLASSES)


@pytest.mark.parametrize(("shape", "smaller"), [((2, 3), (2, 3)), ((TILE, 9), (TILE, 9)), ((9, 3 * TILE), (3, TILE))])
def test_tiles_are_never_enlarged(shape, smaller):
    assert tile(grey(*shape)).shape == (*smaller, 3)


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65501), (".webp", 16384)])
def test_pictures_too_large_for_their_format_are_named(tmp_path, suffix, side):
    with pytest.raises(OSError, match=rf"sheet{suffix}: 2 × {side} pixels are too many for its format"):
        write_picture(tmp_path / f"sheet{suffix}", np.zeros((side, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp", ".jp2", ".pgm", ".foo", ""])
def test_a_format_is_there_if_pictures_can_be_written_in_it(tmp_path, suffix):
    """Not those of a pixel alone, which JPEG 2000 does not take."""
    try:
        write_picture(tmp_path / f"sheet{suffix}", grey())
    except OSError:
        assert not has_format(suffix)
    else:
        assert has_format(suffix)


def test_whatever_can_be_annotated_can_be_written_and_the_rest_is_named(tmp_path):
    write_picture(tmp_path / "sheet.png", Image.new("RGB", (3, 2), (1, 2, 3)))
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "sheet.png")), np.full((2, 3, 3), (1, 2, 3)))
    with pytest.raises(ValueError, match="images must be RGB, uint8 .* not a ndarray of float64"):
        write_picture(tmp_path / "sheet.png", np.zeros((2, 3, 3)))


# ---- colours ----


def test_colours_differ_for_as_many_classes_as_there_are():
    colors = np.array([class_color(label) for label in range(80)])
    distances = np.linalg.norm(colors[:, None] - colors, axis=2) + 1000 * np.eye(len(colors))
    assert distances.min() > 20
    assert distances[:20, :20].min() > 60
    assert len({class_color(label) for label in range(300)}) == 300


@pytest.mark.parametrize("label", range(40))
def test_text_is_legible_on_its_colour(label):
    """The darkest and the lightest pixel of a caption keep the contrast that WCAG 2.1 asks of text, 4.5 to 1."""
    drawn = draw_detections(grey(400, 600), [[100, 100, 300, 300]], [label], None, ["mmmmm"] * 40)
    caption = drawn[86:98, 102:150].reshape(-1, 3)
    luminances = sorted(relative_luminance(color) for color in np.unique(caption, axis=0))
    assert (luminances[-1] + 0.05) / (luminances[0] + 0.05) >= 4.5


# ---- contact sheets ----


def test_a_sheet_of_equal_pictures_holds_each_unchanged_in_reading_order():
    images = [np.full((40, 60, 3), value, np.uint8) for value in (0, 50, 100, 150, 200)]
    sheet = contact_sheet(images, 3)
    gap = (sheet.shape[1] - 3 * 60) // 4
    assert gap > 0
    assert sheet.shape == (2 * 40 + 3 * gap, 3 * 60 + 4 * gap, 3)
    assert sheet.dtype == np.uint8
    for index, image in enumerate(images):
        top, left = gap + index // 3 * (40 + gap), gap + index % 3 * (60 + gap)
        assert np.array_equal(sheet[top : top + 40, left : left + 60], image)
        sheet[top : top + 40, left : left + 60] = 255
    assert np.all(sheet == 255)


def test_captions_stand_above_their_rows():
    images = [np.full((40, 60, 3), value, np.uint8) for value in (0, 50, 100, 150)]
    plain, sheet = contact_sheet(images, 2), contact_sheet(images, 2, ["first", "second row"])
    assert sheet.shape[1] == plain.shape[1]
    gap = (sheet.shape[1] - 2 * 60) // 3
    band = (len(sheet) - len(plain)) // 2
    assert band >= 8
    for row, values in enumerate([(0, 50), (100, 150)]):
        top = row * (band + 40 + gap) + gap + band
        assert [sheet[top, gap, 0], sheet[top + 39, -gap - 1, 0]] == list(values)
        assert (sheet[top - gap - band : top] < 128).any()
    with pytest.raises(ValueError, match="2 rows need as many captions, got 1"):
        contact_sheet(images, 2, ["alone"])


def test_unequal_pictures_are_letterboxed_on_white():
    wide, high = np.zeros((40, 80, 3), np.uint8), np.zeros((60, 30, 3), np.uint8)
    sheet = contact_sheet([wide, high], 2)
    gap = sheet.shape[0] - 60 >> 1
    assert sheet.shape == (60 + 2 * gap, 2 * 80 + 3 * gap, 3)
    dark = np.all(sheet == 0, axis=2)
    left, right = dark[:, : gap + 80], dark[:, gap + 80 :]
    assert (left.any(axis=1).sum(), left.any(axis=0).sum()) == (40, 80)
    assert (right.any(axis=1).sum(), right.any(axis=0).sum()) == (60, 30)
    assert np.array_equal(left, left[::-1])
    assert np.array_equal(right, right[:, ::-1])


def test_small_pictures_fill_their_cells():
    sheet = contact_sheet([np.zeros((100, 100, 3), np.uint8), np.zeros((10, 5, 3), np.uint8)], 1)
    dark = np.all(sheet == 0, axis=2)[sheet.shape[0] // 2 :]
    assert (dark.any(axis=1).sum(), dark.any(axis=0).sum()) == (100, 50)


def test_a_very_thin_picture_keeps_a_pixel_of_width():
    sheet = contact_sheet([np.zeros((2, 100, 3), np.uint8), np.zeros((900, 1, 3), np.uint8)], 2)
    assert sheet.shape[0] > 900


def test_one_picture_makes_one_column():
    assert contact_sheet([grey(50, 50)], 7).shape[1] < 60


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([grey()], 0)])
def test_a_sheet_of_nothing_is_refused(images, columns):
    with pytest.raises(ValueError, match="needs pictures and columns"):
        contact_sheet(images, columns)
