"""The generated data set: its pictures, its annotations, and what it does to folders."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import matplotlib.path
import numpy as np
import pytest

from aploss_mx.data import painted_shapes, shapes
from aploss_mx.data.painted_shapes import SHAPES_CLASSES, PaintedShape, paint_picture
from aploss_mx.data.shapes import generate, main

SIZE = 128


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, list[PaintedShape]]]:
    return [paint_picture(0, "train", index, SIZE) for index in range(150)]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("shapes") / "set", 6, 3, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rectangle(x1: float, y1: float, x2: float, y2: float, visible: np.ndarray) -> PaintedShape:
    return PaintedShape(1, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), visible)


# ---- one object ----


def test_properties_of_a_whole_rectangle():
    visible = np.zeros((20, 20), bool)
    visible[3:9, 2:12] = True
    shape = rectangle(2, 3, 12, 9, visible)
    assert shape.box == (3, 4, 12, 9)
    assert shape.visible_fraction == pytest.approx(1.0)
    assert not shape.truncated
    assert not shape.difficult


@pytest.mark.parametrize(
    ("last_column", "truncated", "difficult"),
    [(12, False, False), (11, False, False), (10, True, False), (8, True, False), (7, True, True)],
)
def test_properties_of_a_rectangle_hidden_from_the_right(last_column, truncated, difficult):
    visible = np.zeros((20, 20), bool)
    visible[3:9, 2:last_column] = True
    shape = rectangle(2, 3, 12, 9, visible)
    assert shape.box == (3, 4, last_column, 9)
    assert shape.visible_fraction == pytest.approx((last_column - 2) / 10)
    assert (shape.truncated, shape.difficult) == (truncated, difficult)


def test_area_outside_the_picture_counts_as_hidden():
    visible = np.zeros((20, 20), bool)
    visible[5:15, :5] = True
    shape = rectangle(-5, 5, 5, 15, visible)
    assert shape.box == (1, 6, 5, 15)
    assert shape.visible_fraction == pytest.approx(0.5)
    assert shape.truncated


# ---- pictures ----


def test_pictures_are_rgb_and_hold_one_to_four_objects(pictures):
    assert all(image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 for image, _ in pictures)
    assert {len(objects) for _, objects in pictures} == {1, 2, 3, 4}


def test_every_class_is_common(pictures):
    labels = [shape.label for _, objects in pictures for shape in objects]
    counts = np.bincount(labels, minlength=len(SHAPES_CLASSES))
    assert len(counts) == len(SHAPES_CLASSES)
    assert counts.min() > 0.5 * counts.mean()


def test_sizes_range_from_small_to_large(pictures):
    whole = [shape.outline.max(axis=0) - shape.outline.min(axis=0) for _, objects in pictures for shape in objects]
    sides = np.sqrt(np.prod(whole, axis=1))
    assert 24 <= sides.min() < 28
    assert 75 < sides.max() <= 0.65 * SIZE


def test_at_most_a_tenth_of_an_objects_width_and_height_leaves_the_picture(pictures):
    outlines = [shape.outline for _, objects in pictures for shape in objects]
    low, high = (np.array([corner(outline, axis=0) for outline in outlines]) for corner in (np.min, np.max))
    beyond = np.maximum(-low, high - SIZE) / (high - low)
    assert 0.05 < beyond.max() <= 0.1 + 1e-9


def test_objects_stay_visible_and_the_half_hidden_are_difficult(pictures):
    objects = [shape for _, objects in pictures for shape in objects]
    assert min(shape.visible_fraction for shape in objects) >= 0.45
    assert all(shape.difficult == (shape.visible_fraction < 0.6) for shape in objects)
    assert 0 < np.mean([shape.difficult for shape in objects]) < 0.15


def test_no_pixel_shows_two_objects(pictures):
    for _, objects in pictures:
        assert np.sum([shape.visible for shape in objects], axis=0).max() == 1


def test_boxes_agree_with_the_outlines_sampled_point_by_point(pictures):
    offsets = (np.arange(4 * SIZE) + 0.5) / 4
    points = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)
    for _, objects in pictures[:12]:
        shape = objects[-1]  # the one in front, which nothing hides
        inside = matplotlib.path.Path(shape.outline).contains_points(points)
        coverage = inside.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))
        oracle = shape._replace(visible=coverage >= 0.5)
        assert np.abs(np.subtract(shape.box, oracle.box)).max() <= 1
        assert np.mean(shape.visible ^ oracle.visible) < 0.003


def record_changes(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """A list that gets, for each shape that is painted, how much it changes the picture, and its coverage."""
    changes, paint = [], painted_shapes._paint

    def recording_paint(rng, image, coverage):
        before = image.copy()
        paint(rng, image, coverage)
        changes.append((image - before, coverage))

    monkeypatch.setattr(painted_shapes, "_paint", recording_paint)
    return changes


def test_boxes_are_tight_around_the_pixels_that_painting_changed(monkeypatch):
    changes = record_changes(monkeypatch)
    for index in range(40):
        _, objects = paint_picture(3, "val", index, SIZE)
        changed = objects[-1]._replace(visible=np.abs(changes[-1][0]).max(axis=2) > 1).box
        outside = np.subtract(objects[-1].box, changed) * [1, 1, -1, -1]
        # A star's tip, 36 degrees wide, falls below half a pixel's area 1.5 px before its end.
        assert outside.min() >= 0
        assert outside.max() <= 2


def test_objects_stand_out_from_what_they_cover(monkeypatch):
    changes = record_changes(monkeypatch)
    for index in range(40):
        paint_picture(3, "val", index, SIZE)
    assert min(np.linalg.norm(change, axis=2)[coverage == 1].mean() for change, coverage in changes) > 50


def test_a_picture_depends_on_each_of_seed_split_index_and_size():
    image = paint_picture(0, "train", 0)[0]
    assert np.array_equal(image, paint_picture(0, "train", 0, 128)[0])
    for other in (paint_picture(1, "train", 0), paint_picture(0, "val", 0), paint_picture(0, "train", 1)):
        assert np.mean(image != other[0]) > 0.5
    assert paint_picture(0, "train", 0, 64)[0].shape == (64, 64, 3)


# ---- files ----


def test_the_layout_is_that_of_voc(small_set):
    ids = [f"train_{index:06d}" for index in range(6)] + [f"val_{index:06d}" for index in range(3)]
    expected = {f"VOC2007/Annotations/{image_id}.xml" for image_id in ids}
    expected |= {f"VOC2007/JPEGImages/{image_id}.jpg" for image_id in ids}
    expected |= {"VOC2007/ImageSets/Main/train.txt", "VOC2007/ImageSets/Main/val.txt", "shapes.json"}
    assert set(contents(small_set)) == expected
    lists = small_set / "VOC2007" / "ImageSets" / "Main"
    assert (lists / "train.txt").read_text().split() == ids[:6]
    assert (lists / "val.txt").read_text().split() == ids[6:]


def test_annotations_describe_the_pictures(small_set):
    voc = small_set / "VOC2007"
    for split, count in (("train", 6), ("val", 3)):
        for index in range(count):
            image, objects = paint_picture(0, split, index)
            root = ET.parse(voc / "Annotations" / f"{split}_{index:06d}.xml").getroot()
            assert root.tag == "annotation"
            assert [int(root.findtext(f"size/{name}")) for name in ("width", "height", "depth")] == [SIZE, SIZE, 3]
            nodes = root.findall("object")
            assert [node.findtext("name") for node in nodes] == [SHAPES_CLASSES[shape.label] for shape in objects]
            for node, shape in zip(nodes, objects):
                xmin, ymin, xmax, ymax = box = tuple(
                    int(node.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")
                )
                assert box == shape.box
                assert 1 <= xmin < xmax <= SIZE
                assert 1 <= ymin < ymax <= SIZE
                assert node.findtext("truncated") == str(int(shape.truncated))
                assert node.findtext("difficult") == str(int(shape.difficult))
            stored = cv2.imread(str(voc / "JPEGImages" / root.findtext("filename")))[..., ::-1]
            assert stored.shape == image.shape
            assert np.abs(stored.astype(int) - image).mean() < 6  # JPEG's loss; swapped channels give tens


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small_set, tmp_path):
    again = contents(generate(tmp_path / "again", 6, 3, progress=False))
    other = contents(generate(tmp_path / "other", 6, 3, seed=1, progress=False))
    assert again == contents(small_set)
    assert all(again[name] != other[name] for name in again if name.endswith((".jpg", ".xml")))


def test_a_larger_set_begins_with_the_smaller(small_set, tmp_path):
    larger = contents(generate(tmp_path / "larger", 7, 5, progress=False))
    smaller = {name: data for name, data in contents(small_set).items() if name.endswith((".jpg", ".xml"))}
    assert smaller.items() <= larger.items()


# ---- folders ----


def test_a_complete_set_is_reused(tmp_path, monkeypatch):
    root = generate(tmp_path / "set", 2, 1, progress=False)
    before = contents(root)
    monkeypatch.setattr(shapes, "paint_picture", lambda *_: pytest.fail("painted again"))
    assert generate(str(root), 2, 1, progress=False) == root
    assert contents(root) == before


@pytest.mark.parametrize("change", [{"num_train": 3}, {"num_val": 2}, {"size": 64}, {"seed": 1}])
def test_a_set_of_other_parameters_is_refused_and_kept(tmp_path, change):
    arguments = {"num_train": 2, "num_val": 1, "size": 128, "seed": 0, "progress": False}
    root = generate(tmp_path / "set", **arguments)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="holds a shapes data set made with"):
        generate(root, **{**arguments, **change})
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "lost", ["JPEGImages/train_000001.jpg", "Annotations/val_000000.xml", "ImageSets/Main/val.txt"]
)
def test_a_set_that_lost_a_file_is_refused_by_its_name(tmp_path, lost):
    root = generate(tmp_path / "set", 2, 1, progress=False)
    (root / "VOC2007" / lost).unlink()
    with pytest.raises(FileExistsError, match=Path(lost).name):
        generate(root, 2, 1, progress=False)


def test_a_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not a shapes data set"):
        generate(tmp_path, 2, 1, progress=False)
    assert contents(tmp_path) == {"thesis.txt": b"precious"}


def test_a_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"thesis\.txt exists and is not a shapes data set"):
        generate(path, 2, 1, progress=False)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("current", [False, True])
def test_an_empty_folder_is_filled_and_a_missing_parent_made(tmp_path, monkeypatch, current):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    made = contents(generate(tmp_path / "new" / "parent" / "set", 1, 1, progress=False))
    assert contents(generate("." if current else empty, 1, 1, progress=False)) == made == contents(empty)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(seed, split, index, size):
        if index == 2:
            # Unfinished work lies beside its target, whence a rename can take it there.
            assert [path.name[:5] for path in tmp_path.iterdir()] == [".set-"]
            raise KeyboardInterrupt
        return paint_picture(seed, split, index, size)

    monkeypatch.setattr(shapes, "paint_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", 4, 1, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_set_that_another_process_finishes_meanwhile_is_reused_if_it_is_the_same(tmp_path, monkeypatch, exists, seed):
    root = tmp_path / "set"
    if exists:
        root.mkdir()

    def outrun(*arguments):
        monkeypatch.undo()
        generate(root, 1, 1, seed=seed, progress=False)
        return paint_picture(*arguments)

    monkeypatch.setattr(shapes, "paint_picture", outrun)
    if seed == 0:
        assert generate(root, 1, 1, progress=False) == root
    else:
        with pytest.raises(FileExistsError, match="'seed': 1}, not .*Nothing was changed"):
            generate(root, 1, 1, progress=False)
    assert sorted(path.name for path in root.iterdir()) == ["VOC2007", "shapes.json"]
    assert list(tmp_path.iterdir()) == [root]


def test_what_a_killed_process_left_in_an_empty_folder_is_no_hindrance(tmp_path):
    (tmp_path / f".{tmp_path.name}-k1ll3d" / "shapes").mkdir(parents=True)
    generate(tmp_path, 1, 1, progress=False)
    assert (tmp_path / "shapes.json").is_file()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"num_train": 0}, "'train', got 0"),
    ({"num_val": -1}, "'val', got -1"),
    ({"size": 63}, "size=63"),
    ({"seed": -1}, "seed .* got -1"),
])  # fmt: skip
def test_parameters_out_of_range_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "set", progress=False, **arguments)
    assert list(tmp_path.iterdir()) == []


# ---- command line ----


def test_the_command_writes_what_generate_writes(small_set, tmp_path, capsys):
    main(["--output", str(tmp_path / "set"), "--train", "6", "--val", "3", "--size", "128", "--seed", "0"])
    assert contents(tmp_path / "set") == contents(small_set)
    assert "6 pictures to train on, 3 to evaluate on" in capsys.readouterr().out


def test_the_command_reports_errors_without_a_traceback(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SystemExit) as error:
        main(["--output", str(tmp_path)])
    assert error.value.code == 2
    assert "is not a shapes data set" in capsys.readouterr().err
