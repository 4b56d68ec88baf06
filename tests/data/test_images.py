import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.images import BadImage, decode_image

SHADES = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
COLOURS = np.stack([SHADES, SHADES[::-1], 255 - SHADES], axis=2)
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encode(image: Image.Image, suffix: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def decode(data: bytes, max_pixels: int = 10**6, min_side: int = 1) -> np.ndarray:
    return decode_image(data, max_pixels=max_pixels, min_side=min_side)


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[:, :, None], 3, axis=2)


def test_rgb_is_kept_and_the_array_is_writable():
    image = decode(encode(Image.fromarray(COLOURS)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, COLOURS)
    image[0, 0] = 0


@pytest.mark.parametrize("suffix", ["BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_format_is_read(suffix):
    options = {"lossless": True} if suffix == "WEBP" else {}
    image = decode(encode(Image.fromarray(grey(SHADES)), suffix, **options))
    assert np.abs(image.astype(int) - grey(SHADES)).max() <= (70 if suffix == "JPEG" else 0)


def test_grey_becomes_three_equal_channels():
    np.testing.assert_array_equal(decode(encode(Image.fromarray(SHADES))), grey(SHADES))


def test_one_bit_becomes_black_and_white():
    bits = SHADES % 3 == 0
    np.testing.assert_array_equal(decode(encode(Image.fromarray(bits))), grey(bits * np.uint8(255)))


def test_transparency_is_laid_over_white():
    alpha = np.full_like(SHADES, 255)
    alpha[:5], alpha[5:9] = 0, 128
    rgba = Image.fromarray(np.dstack([COLOURS, alpha]))
    share = alpha[:, :, None] / 255
    expected = COLOURS * share + 255 * (1 - share)
    assert np.abs(decode(encode(rgba)) - expected).max() <= 1

    la = Image.merge("LA", [Image.fromarray(SHADES), Image.fromarray(alpha)])
    expected = grey(SHADES) * share + 255 * (1 - share)
    assert np.abs(decode(encode(la)) - expected).max() <= 1


def test_a_transparent_colour_of_an_opaque_mode_is_white():
    image = decode(encode(Image.fromarray(SHADES), transparency=7))
    np.testing.assert_array_equal(image, grey(np.where(SHADES == 7, 255, SHADES).astype(np.uint8)))


def test_palette_is_looked_up():
    palette = np.array([[250, 0, 0], [0, 240, 0], [0, 0, 230], [9, 9, 9]], np.uint8)
    image = Image.frombytes("P", (32, 24), (SHADES % 4).tobytes())
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decode(encode(image)), palette[SHADES % 4])
    expected = palette.copy()
    expected[2] = 255
    np.testing.assert_array_equal(decode(encode(image, transparency=2)), expected[SHADES % 4])
    expected[:3] = [[255] * 3, palette[1], [255] * 3]
    np.testing.assert_array_equal(decode(encode(image, transparency=bytes([0, 255, 0]))), expected[SHADES % 4])


@pytest.mark.parametrize("suffix", ["JPEG", "TIFF"])
def test_cmyk_is_converted(suffix):
    red = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    assert np.abs(decode(encode(red, suffix)).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_257(suffix):
    levels = (SHADES.astype(np.uint16) * 257)[:, ::-1]
    image = decode(encode(Image.fromarray(np.ascontiguousarray(levels)), suffix))
    np.testing.assert_array_equal(image, grey(SHADES[:, ::-1]))
    between = decode(encode(Image.fromarray(np.full((4, 4), 300, np.uint16)), suffix))
    np.testing.assert_array_equal(between, 1)


def test_integers_are_taken_for_sixteen_bits_and_clipped():
    levels = np.array([[-5, 0, 257, 65535, 10**6]], np.int32)
    image = decode(encode(Image.fromarray(levels), "TIFF"))
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 1, 255, 255])


def test_floating_point_is_scaled_or_clipped():
    unit = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(unit), "TIFF"))[0, :, 0], [0, 128, 255, 0])
    wide = np.array([[-3.0, 0.6, 200.2, np.inf]], np.float32)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(wide), "TIFF"))[0, :, 0], [0, 1, 200, 255])


@pytest.mark.parametrize("suffix", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(suffix, orientation):
    # what each value says about row 0 and column 0 of the stored image (EXIF 2.3, tag 0x0112)
    stored = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2),
        6: COLOURS.transpose(1, 0, 2)[::-1],
        7: COLOURS.transpose(1, 0, 2)[::-1, ::-1],
        8: COLOURS.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if suffix == "WEBP" else {}
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), suffix, exif=exif, **options)
    np.testing.assert_array_equal(decode(data), COLOURS)


def test_damaged_exif_does_not_cost_the_image():
    data = encode(Image.fromarray(COLOURS), exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\xffgarbage")
    np.testing.assert_array_equal(decode(data), COLOURS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><title>404</title>", "not an image"),
        (encode(Image.fromarray(NOISE))[:-400], "truncated"),
        (encode(Image.fromarray(COLOURS), "JPEG")[:-300], "truncated"),
        (encode(Image.fromarray(COLOURS), "BMP")[:-300], "truncated"),
        (encode(Image.fromarray(COLOURS), "PPM"), "not an image"),
    ],
    ids=["empty", "html", "png", "jpeg", "bmp", "ppm"],
)
def test_what_is_no_whole_image_is_refused(data, reason):
    with pytest.raises(BadImage, match=f"^{reason}"):
        decode(data)


def test_size_limits_name_what_they_found():
    data = encode(Image.fromarray(COLOURS))
    assert decode(data, max_pixels=768, min_side=24).shape == (24, 32, 3)
    with pytest.raises(BadImage, match=r"too many pixels \(more than 767\)"):
        decode(data, max_pixels=767)
    with pytest.raises(BadImage, match=r"too small \(32 x 24, shorter side below 25\)"):
        decode(data, min_side=25)


@pytest.mark.parametrize("side", [1100, 60000])
def test_a_bomb_is_refused_by_its_header(side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    # no pixel data at all: had it been decoded, the reason would be another one
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(BadImage, match="too many pixels"):
        decode(bomb)


SAMPLES = [
    encode(Image.fromarray(COLOURS), suffix, **options)
    for suffix, options in [
        ("PNG", {}),
        ("JPEG", {"exif": Image.Exif()}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
    ]
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=4)), max_size=6),
    st.integers(0, 3000),
)
def test_no_bytes_raise_anything_but_bad_image(data, edits, cut):
    mutated = bytearray(data)
    for position, patch in edits:
        mutated[position % len(mutated) : position % len(mutated) + len(patch)] = patch
    try:
        image = decode(bytes(mutated[: max(cut, len(mutated) // 2)]))
    except BadImage:
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
