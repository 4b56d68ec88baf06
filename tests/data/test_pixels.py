"""Files of many layouts and types, against the array that they were written from."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.images import BadImage, decode_image
from pipeline.data.pixels import count_channels, decode_pixels, read_size

LIMITS = {"max_pixels": 10**6, "min_side": 8}
SHAPE = (20, 30)


def values(channels: int, kind: type = np.uint16) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 60_000, (*SHAPE, channels))
    return pixels.astype(kind)


def tiff(pixels: np.ndarray, **settings) -> bytes:
    written = io.BytesIO()
    tifffile.imwrite(written, pixels, **settings)
    return written.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, pixels)
    return written.getvalue()


def pillow(mode: str, form: str, pixels: np.ndarray | None = None, **settings) -> bytes:
    image = Image.new(mode, SHAPE[::-1]) if pixels is None else Image.fromarray(pixels)
    assert image.mode == mode
    written = io.BytesIO()
    image.save(written, form, **settings)
    return written.getvalue()


def first(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


GREY = {"photometric": "minisblack"}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64])
def test_tiff_and_npy_keep_the_values_whether_channels_are_last_or_first(kind):
    pixels = values(5, kind)
    files = {
        "last": tiff(pixels, **GREY, planarconfig="contig"),
        "planes": tiff(first(pixels), **GREY, planarconfig="separate"),
        "pages": tiff(first(pixels), **GREY),
        "rows taken for pages": tiff(pixels),
        "deflated": tiff(pixels, **GREY, planarconfig="contig", compression="zlib"),
        "tiled": tiff(pixels, **GREY, planarconfig="contig", tile=(16, 16)),
        "big endian": tiff(pixels, **GREY, planarconfig="contig", byteorder=">"),
        "npy": npy(pixels),
        "npy first": npy(first(pixels)),
        "npy in Fortran's order": npy(np.asfortranarray(pixels)),
        "npy, big endian": npy(pixels.astype(np.dtype(kind).newbyteorder(">"))),
    }
    for name, data in files.items():
        found = decode_pixels(data, channels=5, **LIMITS)
        np.testing.assert_array_equal(found, pixels, err_msg=name)
        assert found.dtype == np.dtype(kind), name
        assert count_channels(data) == 5, name


def test_one_channel_comes_from_all_formats():
    grey = values(1, np.uint16)[..., 0]
    bits = grey > 30_000
    for data in (tiff(grey), npy(grey), npy(grey[None]), npy(grey[..., None]), pillow("I;16", "PNG", grey)):
        np.testing.assert_array_equal(decode_pixels(data, channels=1, **LIMITS)[..., 0], grey)
        assert count_channels(data) == 1
    small = (grey // 256).astype(np.uint8)
    for data in (pillow("L", "PNG", small), pillow("L", "BMP", small), tiff(255 - small, photometric="miniswhite")):
        np.testing.assert_array_equal(decode_pixels(data, channels=1, **LIMITS)[..., 0], small)
    for data in (npy(bits), tiff(bits, **GREY)):
        np.testing.assert_array_equal(decode_pixels(data, channels=1, **LIMITS)[..., 0], 255 * bits.astype(np.uint8))
    assert decode_pixels(pillow("L", "JPEG", small), channels=1, **LIMITS).shape == (*SHAPE, 1)


def test_alpha_is_a_channel_where_four_or_two_are_asked_for():
    pixels = values(4, np.uint8)
    for data in (pillow("RGBA", "PNG", pixels), pillow("RGBA", "TIFF", pixels)):
        np.testing.assert_array_equal(decode_pixels(data, channels=4, **LIMITS), pixels)
    np.testing.assert_array_equal(
        decode_pixels(pillow("LA", "PNG", pixels[..., :2]), channels=2, **LIMITS), pixels[..., :2]
    )


def test_compressions_that_only_pillow_knows_are_read():
    grey = values(1)[..., 0]
    lzw = pillow("I;16", "TIFF", grey, compression="tiff_lzw")
    np.testing.assert_array_equal(decode_pixels(lzw, channels=1, **LIMITS)[..., 0], grey)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_upright_as_pillow_does(tmp_path, orientation):
    pixels = values(1, np.uint8)[..., 0]
    data = tiff(pixels, extratags=[(274, "H", 1, orientation, True)])
    upright = decode_image(data, **LIMITS)[..., 0]
    np.testing.assert_array_equal(decode_pixels(data, channels=1, **LIMITS)[..., 0], upright)
    (tmp_path / "a.tif").write_bytes(data)
    for channels in (1, 3):
        assert read_size(tmp_path / "a.tif", channels=channels, max_pixels=10**6) == upright.shape[::-1]


def test_three_channels_are_read_as_before_from_what_pillow_reads():
    pixels = values(3, np.uint8)
    for data in (pillow("RGB", "PNG", pixels), pillow("RGB", "JPEG", pixels), pillow("RGB", "TIFF", pixels)):
        np.testing.assert_array_equal(decode_pixels(data, channels=3, **LIMITS), decode_image(data, **LIMITS))
    with pytest.raises(BadImage, match=r"^not an image$"):
        decode_pixels(b"II*\0" + bytes(60), channels=3, **LIMITS)


def test_three_channels_that_pillow_does_not_read_become_rgb():
    pixels = values(3, np.uint8)
    assert np.array_equal(decode_pixels(npy(first(pixels)), channels=3, **LIMITS), pixels)
    for data in (npy(pixels.astype(np.uint16) * 257), tiff(first(pixels).astype(np.float32) / 255, **GREY)):
        if data[:4] == b"II*\0":
            continue  # pages of floating point, of which Pillow reads the first as grey
        np.testing.assert_array_equal(decode_pixels(data, channels=3, **LIMITS), pixels)
    for scaled in (pixels / np.float32(255), pixels.astype(np.float32)):
        data = tiff(scaled, photometric="rgb")
        with pytest.raises(BadImage, match="not an image"):
            decode_image(data, **LIMITS)
        np.testing.assert_array_equal(decode_pixels(data, channels=3, **LIMITS), pixels)
    assert decode_pixels(npy(pixels.astype(np.int32) + 200), channels=3, **LIMITS).min() == 200


@pytest.mark.parametrize(
    ("data", "channels", "reason"),
    [
        (npy(values(4)), 5, "4 channels, but data.channels is 5"),
        (npy(values(4)), 3, "4 channels, but data.channels is 3"),
        (tiff(values(6), **GREY, planarconfig="contig"), 3, "6 channels, but data.channels is 3"),
        (tiff(values(1)[..., 0]), 4, "1 channel, but data.channels is 4"),
        (pillow("RGB", "PNG"), 1, "3 channels, but data.channels is 1"),
        (pillow("P", "PNG"), 1, "3 channels, but data.channels is 1"),
        (
            tiff(values(1, np.uint8)[..., 0], photometric="palette", colormap=np.zeros((3, 256), np.uint16)),
            1,
            "palette",
        ),
        (npy(np.full((*SHAPE, 2), np.nan)), 2, "values that are not finite"),
        (tiff(np.full((*SHAPE, 2), np.inf, np.float32), **GREY, planarconfig="contig"), 2, "not finite"),
        (npy(np.full((*SHAPE, 3), np.nan)), 3, "values that are not finite"),
        (npy(values(2).astype(complex)), 2, "values of type complex128, not numbers"),
        (npy(np.array([{}], dtype=object)), 1, "values of type object, not numbers"),
        (npy(np.zeros((4, 5, 6, 7))), 7, "of shape 4x5x6x7, not an image"),
        (npy(values(2))[:-9], 2, "truncated"),
        (b"", 2, "empty file"),
        (b"<html>", 2, "not an image"),
        (npy(np.zeros((7, 30))), 1, "too small"),
        (npy(np.zeros((1001, 1000), np.uint8)), 1, "too many pixels"),
        (tiff(np.zeros((1001, 1000, 4), np.uint8), **GREY, planarconfig="contig", compression="zlib"), 4, "too many"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(data, channels, reason):
    with pytest.raises(BadImage, match=reason):
        decode_pixels(data, channels=channels, **LIMITS)


@given(
    st.sampled_from([npy(values(4)), tiff(values(4), **GREY, planarconfig="contig", compression="zlib")]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 5000),
    st.sampled_from([1, 3, 4]),
)
def test_damaged_bytes_give_an_image_or_a_reason(data, changes, length, channels):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place] = value
    try:
        found = decode_pixels(bytes(damaged[:length]), channels=channels, max_pixels=10_000, min_side=1)
    except BadImage:
        return
    assert found.ndim == 3
    assert found.shape[2] == channels


def test_sizes_come_from_headers(tmp_path):
    files = {"a.npy": npy(values(4)), "b.tif": tiff(values(4)), "c.jpg": pillow("RGB", "JPEG"), "d.png": b"nothing"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sizes = {name: read_size(tmp_path / name, channels=4, max_pixels=10**6) for name in files}
    assert sizes == {"a.npy": (30, 20), "b.tif": (30, 20), "c.jpg": (30, 20), "d.png": None}
    assert read_size(tmp_path / "gone.png", channels=3, max_pixels=10**6) is None
    assert count_channels(files["c.jpg"]) == 3
    assert count_channels(files["d.png"]) is None


def test_of_a_tiff_of_several_rgb_pages_the_first_is_read_and_counted():
    pages = np.random.default_rng(0).integers(0, 256, (4, *SHAPE, 3)).astype(np.uint8)
    data = tiff(pages, photometric="rgb")
    assert np.array_equal(decode_pixels(data, channels=3, **LIMITS), pages[0])
    assert count_channels(data) == 3
