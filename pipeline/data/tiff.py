"""TIFF files of any channels by tifffile, bounded before anything is decoded."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.images import BadImage

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

# what is wrong with a file stands in the reason for which it is refused
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

Plan = Callable[[tuple[int, ...]], tuple[int, int, int | None]]
_PALETTE, _MIN_IS_WHITE, _ORIENTATION = 3, 0, 274  # TIFF 6.0
_PLAIN, _DEFLATED = 1, (8, 32946)  # compressions that are decoded here; a closed list, whatever codecs are installed
_PACKED = 8  # pixels of a byte at most, where nothing is compressed
_DENSEST = 1032  # bytes of a deflated one at most
_TILE = 2**24  # values of a tile that may be larger than its image
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def decode_tiff(data: bytes, plan: Plan, settle: Callable[[np.ndarray, int | None], np.ndarray]) -> np.ndarray | None:
    """Decode the first series of a TIFF file.

    Args:
        data: The bytes of the file.
        plan: From a shape to height, width and the axis of the channels; it refuses what does not fit.
        settle: From the decoded array and that axis to (H, W, channels).

    Returns:
        (H, W, channels), the right way up; None for a compression that is not decoded here.

    Raises:
        BadImage: The file is refused.
        Exception: Of nearly every kind, for a damaged file.
    """
    import tifffile  # only what reads TIFF of other channels than RGB needs it

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        page = series.keyframe
        if page.photometric == _PALETTE:
            raise BadImage("colours of a palette, not channels")
        axis = plan(series.shape)[2]
        if page.compression not in (_PLAIN, *_DEFLATED):
            return None
        _check_bytes(data, series)
        pixels = series.asarray()
        if pixels.shape != series.shape:
            raise BadImage("damaged (it holds another number of pages than it says)")
        if page.photometric == _MIN_IS_WHITE and pixels.dtype.kind in "bu":
            pixels = np.invert(pixels)
        turn = _UPRIGHT.get(page.tags.valueof(_ORIENTATION, 1))
    pixels = settle(pixels, axis)
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def _check_bytes(data: bytes, series: TiffPageSeries) -> None:
    """Refuse a file whose header promises more than its bytes can hold, or whose parts hold more than it promises."""
    page = series.keyframe
    deflated = page.compression in _DEFLATED
    if series.nbytes > len(data) * (_DENSEST if deflated else _PACKED):
        raise BadImage("truncated")
    if math.prod(page.chunks) > max(math.prod(series.shape), _TILE):
        raise BadImage("of tiles that are far larger than the image")
    if not deflated:
        return
    most = math.prod(page.chunks) * series.dtype.itemsize
    for part in series.pages:
        for start, count in zip(*((part.dataoffsets, part.databytecounts) if part else ((), ())), strict=True):
            if len(zlib.decompressobj().decompress(data[start : start + count], most + 1)) > most:
                raise BadImage("damaged (a strip or tile holds more than its pixels)")


def tiff_size(path: Path, plan: Plan | None) -> tuple[int, int]:
    """Width and height of a TIFF file, the right way up.

    Args:
        path: The file.
        plan: See `decode_tiff`; None for the first page, which is what Pillow reads.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.series[0].keyframe
        height, width = plan(file.series[0].shape)[:2] if plan else (page.imagelength, page.imagewidth)
        turned = page.tags.valueof(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def tiff_shape(data: bytes) -> tuple[int, ...] | None:
    """Shape of the first series of a TIFF file; None for one of a palette."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return None if file.series[0].keyframe.photometric == _PALETTE else file.series[0].shape
