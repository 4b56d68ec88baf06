import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile

from pipeline.data.images import BadImage
from pipeline.data.pixels import count_channels, decode_pixels

LIMITS = {"channels": 4, "max_pixels": 10**6, "min_side": 1}
PIXELS = np.random.default_rng(0).integers(0, 60_000, (40, 48, 4)).astype(np.uint16)


def tiff(pixels: np.ndarray = PIXELS, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", planarconfig="contig", metadata=None, **options)
    return buffer.getvalue()


def set_tag(data: bytes, tag: int, value: int) -> bytes:
    """Write another value into a classic little-endian file, where that is of 4 bytes or of 2 in their place."""
    changed = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HI", changed, place + 2, 4, 1)
            struct.pack_into("<I", changed, place + 8, value)
            return bytes(changed)
    raise AssertionError(f"no tag {tag}")


WIDTH, LENGTH, OFFSETS, COUNTS, TILE_LENGTH = 256, 257, 273, 279, 323


@pytest.mark.parametrize(
    "options", [{}, {"tile": (16, 16)}, {"tile": (512, 512)}, {"compression": "zlib"}, {"rowsperstrip": 7}]
)
def test_every_arrangement_of_pixels_is_read(options):
    np.testing.assert_array_equal(decode_pixels(tiff(**options), **LIMITS), PIXELS)
    if "rowsperstrip" not in options:
        predicted = tiff(**options | {"compression": "zlib", "predictor": True})
        np.testing.assert_array_equal(decode_pixels(predicted, **LIMITS), PIXELS)


def bombs() -> dict[str, tuple[bytes, str]]:
    inflated = zlib.compress(bytes(10**8), 9)
    deflated = tiff(compression="zlib")
    bomb = set_tag(set_tag(deflated, OFFSETS, len(deflated)), COUNTS, len(inflated)) + inflated
    return {
        "size": (set_tag(set_tag(tiff(), WIDTH, 2**30), LENGTH, 2**30), "too many pixels|damaged"),
        "promise": (set_tag(set_tag(tiff(), WIDTH, 900), LENGTH, 900), "truncated"),
        "strip": (bomb, "holds more than its pixels"),
        "tile": (set_tag(tiff(tile=(16, 16)), TILE_LENGTH, 2**28), "tiles that are far larger|damaged"),
    }


@pytest.mark.parametrize("name", ["size", "promise", "strip", "tile"])
def test_bombs_are_refused_before_they_are_decoded(name):
    data, reason = bombs()[name]
    tracemalloc.start()
    with pytest.raises(BadImage, match=reason):
        decode_pixels(data, **LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**7


def test_codecs_that_happen_to_be_installed_are_not_used():
    lzma = tiff(compression="lzma")
    assert count_channels(lzma) == 4
    with pytest.raises(BadImage, match="compressed in a way that is not read"):
        decode_pixels(lzma, **LIMITS)


def test_arrays_promise_no_more_than_they_hold():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (1000, 1000, 4)})
    tracemalloc.start()
    with pytest.raises(BadImage, match="truncated"):
        decode_pixels(buffer.getvalue() + bytes(10_000), **LIMITS)
    assert count_channels(buffer.getvalue()) is None
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
