"""Image files become RGB pixels, unreadable ones are named, and pixels become a network's input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_images import noise_image
from PIL import Image, ImageFile

from aploss_mx.data.pixels import normalize, read_image


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


def test_palettes_become_rgb(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = (200, 100, 50)
    Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), image)


def test_palettes_with_opacities_become_rgb_without_a_warning(tmp_path, recwarn):
    """Nobody need convert such a file, as Pillow's warning asks for."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = (200, 100, 50)
    paletted = Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE)
    paletted.save(tmp_path / "palette.png", transparency=bytes([128] * 256))
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), image)
    assert not recwarn.list


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = jpeg_bytes(noise_image(40, 40))
    contents = {"cut.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"not an image"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        read_image(tmp_path / "missing.jpg")


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


def test_a_cut_image_is_refused_whatever_gluoncv_set(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_normalize_is_the_published_formula():
    image = noise_image(3, 5)
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tensor = normalize(image)
    assert tensor.dtype == np.float32 and tensor.shape == (3, 3, 5) and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_normalize_refuses_what_is_no_rgb_image(image):
    with pytest.raises(ValueError, match="uint8"):
        normalize(image)
