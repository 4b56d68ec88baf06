"""Any bytes in place of an image of many channels: TIFF and NPY files."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.images import BadImage
from pipeline.data.pixels import count_channels, decode_pixels, read_size
from pipeline.errors import InputError
from tests.fuzz.cases import judge, tried
from tests.fuzz.damage import damaged

MAX_PIXELS = 4000
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 60_000, (18, 20, 5)).astype(np.uint16)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", **options)
    return buffer.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def header(shape: tuple[int, ...], kind: str, order: bool, rest: bytes) -> bytes:
    """An NPY file whose header is given."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": order, "shape": shape})
    return buffer.getvalue() + rest


FIRST = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 0))
TIFFS = [
    tiff(PIXELS),
    tiff(PIXELS, metadata=None, planarconfig="contig", compression="zlib", predictor=True),
    tiff(PIXELS, metadata=None, planarconfig="contig", tile=(16, 16)),
    tiff(FIRST, metadata=None, planarconfig="separate", compression="zlib"),
    tiff(FIRST, metadata=None),  # a page for each channel
    tiff(PIXELS[..., :3].astype(np.float32), metadata=None, planarconfig="contig"),
    tiff(PIXELS[..., 0], metadata=None, rowsperstrip=3, compression="zlib"),
    tiff(PIXELS[..., 0] > 9, metadata=None, extratags=[(274, 3, 1, 6, True)]),
    tiff(PIXELS, bigtiff=True, byteorder=">"),
    tiff(PIXELS, imagej=False, ome=True),
]
ARRAYS = [
    npy(PIXELS),
    npy(FIRST),
    npy(np.asfortranarray(PIXELS[..., :3] / 60_000)),
    npy(PIXELS[..., 0] > 9),
    npy(PIXELS[..., :1].astype(">i4")),
    npy(PIXELS.astype(np.float16)),
]
SIDES = st.sampled_from([0, 1, 3, 5, 18, 20, 2**16, 2**31, 2**40]) | st.integers(0, 100)
KINDS = st.sampled_from(["<u2", "|u1", "<f8", "|b1", "|O", "<U9", "|V0", "<c16", "<M8[s]", ">f4", "|S3"])
HEADERS = st.builds(
    header, st.lists(SIDES, max_size=5).map(tuple), KINDS, st.booleans(), st.binary(max_size=200) | st.just(bytes(4000))
)


@st.composite
def retagged(draw: st.DrawFn) -> bytes:
    """A TIFF file with other values in some of its tags."""
    data = bytearray(draw(st.sampled_from(TIFFS[:8])))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for _ in range(draw(st.integers(1, 3))):
        place = start + 2 + 12 * draw(st.integers(0, count - 1))
        value = draw(st.integers(0, 2**32 - 1) | st.integers(0, 70) | st.sampled_from([2**16, 2**31, 2**32 - 1]))
        struct.pack_into("<HI", data, place + 2, draw(st.sampled_from([3, 4, 4, 1, 2, 5, 12, 16])), 1)
        struct.pack_into("<I", data, place + 8, value)
    return bytes(data)


BYTES = (
    st.sampled_from(TIFFS + ARRAYS).flatmap(damaged)
    | retagged()
    | HEADERS
    | st.builds(
        lambda magic, rest: magic + rest,
        st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"\x93NUMPY\x01\0", b"\x93NUMPY\x03\0"]),
        st.binary(max_size=120),
    )
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bands") / "image"


@given(data=BYTES, channels=st.sampled_from([1, 3, 5, 20]))
@tried("bands")
def test_any_image_of_many_channels(file: Path, data: bytes, channels: int) -> None:
    def decode() -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return decode_pixels(data, channels=channels, max_pixels=MAX_PIXELS, min_side=2)
        except BadImage as error:  # the file's name is put before it where it is reported
            assert 0 < len(str(error)) < 200
            raise InputError(str(error)) from None

    image = judge("bands", decode)
    found = count_channels(data)
    file.write_bytes(data)
    size = read_size(file, channels=channels, max_pixels=MAX_PIXELS)
    if image is not None:
        height, width, depth = image.shape
        assert depth == channels
        assert image.dtype == np.uint8 or channels != 3
        assert image.dtype.kind in "uif"
        assert np.isfinite(image).all()
        assert height * width <= MAX_PIXELS
        assert min(height, width) >= 2
        assert found is not None
        assert size == (width, height)
