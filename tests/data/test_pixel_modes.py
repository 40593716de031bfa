"""One rule for pixels of all modes, ranges and orientations, whatever the version of Pillow."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from drawn_images import exif, noise_image
from PIL import EpsImagePlugin, Image, ImageCms

from aploss_mx.data.images import open_image, orientation_of, stored_size, turned, turned_back
from aploss_mx.data.pixels import read_image, to_8_bits, to_rgb

COLOUR, GREY = (200, 100, 50), 124  # 124 = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
MODES = sorted({*Image.MODES, "LA", "PA", "La", "RGBa", "I;16", "I;16L", "I;16B"})


def in_mode(mode: str) -> Image.Image:
    """A picture of one colour, as near to COLOUR as the mode can say."""
    picture = Image.new("RGB", (3, 2), COLOUR)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    if mode.startswith("I;16"):
        return Image.new(mode, (3, 2), GREY)
    if mode == "PA":  # which some versions give a palette of greys
        paletted = picture.convert("P")
        picture = paletted.convert("PA")
        picture.putpalette(paletted.getpalette())
        return picture
    through = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    return picture.convert(through).convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_each_mode_becomes_rgb(mode):
    pixels = to_rgb(in_mode(mode))
    assert (pixels.shape, pixels.dtype) == ((2, 3, 3), np.uint8)
    if mode == "1":
        assert set(pixels.ravel()) <= {0, 255}
    elif mode in ("P", "PA"):  # with a palette of six levels a colour
        np.testing.assert_allclose(pixels[0, 0], COLOUR, atol=26)
    else:
        grey = mode[0] in "IF" or mode in ("L", "LA", "La")
        np.testing.assert_allclose(pixels[0, 0], (GREY,) * 3 if grey else COLOUR, atol=5)


@pytest.mark.parametrize("mode, stored", [("LA", (60, 128)), ("RGBA", (100, 50, 25, 128))])
def test_what_is_multiplied_by_opacity_is_divided_by_it(mode, stored):
    multiplied = Image.new(mode, (2, 2), stored).convert(mode[:-1] + "a")
    np.testing.assert_allclose(to_rgb(multiplied)[0, 0], (stored[0],) * 3 if mode == "LA" else stored[:3], atol=2)


@pytest.mark.parametrize(
    "dtype, values, expected",
    [
        (np.uint16, [0, 7, 255], [0, 7, 255]),
        (np.int32, [0, 1], [0, 1]),
        (np.uint16, [0, 256, 1023], [0, 64, 255]),
        (np.uint16, [0, 2048, 4095], [0, 128, 255]),
        (np.uint16, [0, 8192, 16383], [0, 128, 255]),
        (np.uint16, [0, 0x4DFF, 65535], [0, 0x4D, 255]),
        (">u2", [0, 0x4DFF, 65535], [0, 0x4D, 255]),
        (np.int32, [0, 1 << 23, (1 << 24) - 1], [0, 128, 255]),
        (np.uint32, [0, 1 << 31, (1 << 32) - 1], [0, 128, 255]),
        (np.int32, [-1024, 0, 1024], [0, 127, 255]),
        (np.int32, [-(1 << 31), 0, (1 << 31) - 1], [0, 127, 255]),
        (np.int32, [-5, -5, -5], [0, 0, 0]),
        (np.float32, [0, 0.5, 1], [0, 128, 255]),
        (np.float32, [0, 0.5, 1.02], [0, 128, 255]),
        (np.float32, [0, 0.4, 0.2], [0, 102, 51]),
        (np.float32, [0, 128.9, 255], [0, 128, 255]),
        (np.float32, [0, 2048, 4095.5], [0, 128, 255]),
        (np.float32, [-1, 0, 1], [0, 127, 255]),
        (np.float32, [-3e38, 0, 3e38], [0, 127, 255]),
        (np.float32, [1e30, 5e30, 9e30], [0, 127, 255]),
        (np.float32, [np.nan, 0.5, 1], [0, 128, 255]),
        (np.float32, [np.inf, 100, -np.inf], [0, 100, 0]),
        (np.float32, [np.nan, np.nan, np.inf], [0, 0, 0]),
    ],
)
def test_the_range_decides_what_white_is(dtype, values, expected):
    with np.errstate(all="raise"):
        found = to_8_bits(np.array(values, dtype))
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=1 if -1 in np.sign(values) or max(values) > 1e10 else 0)


RAMP = np.linspace(0, 1, 64).reshape(4, 16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_grey_and_colour_of_many_bits_keep_their_contrast(tmp_path, suffix, depth):
    grey = np.round(RAMP * (2**depth - 1)).astype(np.uint16)
    colours = np.stack([grey, grey[::-1], np.full_like(grey, 2**depth // 3)], axis=-1)
    Image.fromarray(grey).save(tmp_path / f"grey.{suffix}")
    cv2.imwrite(str(tmp_path / f"colours.{suffix}"), colours[..., ::-1])
    opaque = np.concatenate([colours[..., ::-1], np.full_like(grey, 65535)[..., None]], axis=-1)
    cv2.imwrite(str(tmp_path / f"opaque.{suffix}"), opaque)
    np.testing.assert_array_equal(read_image(tmp_path / f"grey.{suffix}")[..., 0], grey >> (depth - 8))
    for name in ("colours", "opaque"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.{suffix}"), colours >> (depth - 8), err_msg=name)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_colours_that_are_cut_off_are_refused(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), noise_image(40, 40).astype(np.uint16) * 16)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=rf"a\.{suffix}"):
        read_image(tmp_path / f"a.{suffix}")


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_grey_with_opacity_of_many_bits_keeps_its_contrast(tmp_path):
    grey = np.round(RAMP * 4095).astype(np.uint16)
    rows = np.stack([grey, np.full_like(grey, 65535)], axis=-1).astype(">u2")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *grey.shape[::-1], 16, 4, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + content + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], grey >> 4)


@pytest.mark.parametrize(
    "values",
    [RAMP.astype(np.float32), (RAMP * 255).astype(np.float32), (RAMP * 2147483647).astype(np.int32)],
    ids=["fractions", "floats to 255", "31 bits"],
)
def test_tiffs_of_32_bits_are_not_black(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(
        pixels, np.repeat(RAMP[..., None] * 255, 3, axis=2), atol=1 if values.max() < 256 else 129
    )
    assert len(np.unique(pixels)) > 60


def test_unsigned_tiffs_of_32_bits_do_not_turn_negative(tmp_path):
    values = (RAMP * (2**32 - 1)).astype(np.uint32)
    Image.fromarray(values.view(np.int32)).save(tmp_path / "a.tif")
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, sample_format, 0) for sample_format in (2, 1))
    content = (tmp_path / "a.tif").read_bytes()
    assert signed in content
    (tmp_path / "a.tif").write_bytes(content.replace(signed, unsigned))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], values >> 24)


# Orientation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_back_undoes_turning(orientation):
    pixels = noise_image(4, 6)
    np.testing.assert_array_equal(turned_back(turned(pixels, orientation), orientation), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name, options", [
    ("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {}), ("a.tif", {"compression": "tiff_lzw"}),
])  # fmt: skip
def test_orientation_is_one_thing_in_all_formats(tmp_path, name, options, orientation):
    stored = noise_image(4, 6)
    Image.fromarray(stored).save(tmp_path / name, exif=exif(orientation), **options)
    with open_image(tmp_path / name) as image:
        assert stored_size(image) == (6, 4) and orientation_of(image) == orientation
    np.testing.assert_array_equal(read_image(tmp_path / name), stored)
    shown = {  # as the standard says: where the first row and the first column are to be seen
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1), 7: stored[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(stored, 1),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path / name, exif_orientation=True), shown)


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_orientation_is_one_thing_in_all_modes_of_tiff(tmp_path, mode, orientation):
    grey = Image.fromarray(noise_image(4, 6)[..., 0])
    stored = (
        Image.fromarray(np.asarray(grey).astype(np.uint16)) if mode == "I;16" else grey.convert("RGB").convert(mode)
    )
    stored.save(tmp_path / "a.tif", exif=exif(orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), to_rgb(stored))
    upright = turned(to_rgb(stored), orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", exif_orientation=True), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_colours_keep_their_contrast_however_they_are_turned(tmp_path, suffix, orientation):
    path, colours = tmp_path / f"a.{suffix}", noise_image(6, 6).astype(np.uint16) * 16  # 12 bits
    cv2.imwrite(str(path), colours[..., ::-1])
    content = path.read_bytes()
    if suffix == "png":
        end_of_header = 33
        tags = chunk(b"eXIf", exif(orientation).tobytes()[len(b"Exif\0\0") :])
        path.write_bytes(content[:end_of_header] + tags + content[end_of_header:])
    else:  # in place of a field that says what is so by default
        planes, turn = (struct.pack("<HHIHH", *field, 0) for field in ((284, 3, 1, 1), (274, 3, 1, orientation)))
        assert planes in content
        path.write_bytes(content.replace(planes, turn))
    np.testing.assert_array_equal(read_image(path), colours >> 4)
    np.testing.assert_array_equal(read_image(path, exif_orientation=True), turned(colours >> 4, orientation))


# What is refused ---------------------------------------------------------------------------------


def test_a_program_for_a_printer_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it starts Ghostscript"))
    Image.fromarray(noise_image(9, 9)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(OSError, match=r"a\.jpg: cannot read the image \(it is none of JPEG, PNG") as caught:
        read_image(tmp_path / "a.jpg")
    assert str(caught.value).count("a.jpg") == 1


@pytest.mark.parametrize("error", [NotImplementedError("no"), TypeError("no"), MemoryError(), RecursionError("no")])
def test_whatever_pillow_raises_is_an_image_that_cannot_be_read(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    Image.fromarray(noise_image(9, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(OSError, match=rf"a\.png.*({str(error) or type(error).__name__})"):
        read_image(tmp_path / "a.png")


def test_damaged_tags_leave_the_pixels_readable(tmp_path):
    Image.fromarray(noise_image(9, 9)).save(tmp_path / "a.jpg", exif=exif(6))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(
        content.replace(b"Exif\0\0MM\0*", b"Exif\0\0XX\xff\xff").replace(b"II*\0", b"XX\xff\xff")
    )
    assert read_image(tmp_path / "a.jpg").shape == (9, 9, 3)
