"""Image files of any number of channels: RGB by `decode_image`, others from TIFF, NPY and what Pillow reads."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import PREFIXES

from pipeline.data.images import FORMATS, BadImage, decode_image, read_orientation, turn_upright
from pipeline.data.tiff import decode_tiff, tiff_shape, tiff_size

NOT_AN_IMAGE = "not an image"
_NPY = b"\x93NUMPY"
_KINDS = "buif"  # boolean, unsigned, signed and floating-point values
_MODES = ("1", "L", "LA", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # of Pillow, whose bands are channels
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}  # later versions differ for named fields alone


def decode_pixels(data: bytes, *, channels: int, max_pixels: int, min_side: int) -> np.ndarray:
    """Decode an image file.

    With three channels it is RGB, as `decode_image` makes it; TIFF files that it cannot read, and NPY files, are taken
    if they have three channels: 16 bits become 8 by rounding value / 257, floating-point values that all lie within
    0..1 are multiplied by 255, and others are clipped to 0..255.

    With any other number, files must have exactly that many channels, and keep their values: TIFF and NPY with the
    channels last or first, and grey images or those with alpha from other formats. Boolean values become 0 and 255.

    Args:
        data: The bytes of the file.
        channels: How many channels there must be.
        max_pixels: Larger images are refused before they are decoded.
        min_side: Images with a shorter side, in pixels, are refused before they are decoded.

    Returns:
        (H, W, channels); uint8 for three channels, else of the file's type.

    Raises:
        BadImage: The bytes are no such image, or hold values that are not finite; nothing else is raised.
    """
    if channels != 3:
        return _decode_bands(data, channels, max_pixels, min_side)
    if not data.startswith(_NPY):
        try:
            return decode_image(data, max_pixels=max_pixels, min_side=min_side)
        except BadImage as error:
            if str(error) != NOT_AN_IMAGE or data[:4] not in PREFIXES or count_channels(data) is None:
                raise
    return _to_rgb(_decode_bands(data, 3, max_pixels, min_side))


def read_size(path: Path, *, channels: int, max_pixels: int) -> tuple[int, int] | None:
    """Width and height of an image in pixels, the right way up, from its header.

    Args:
        path: The file.
        channels: See `decode_pixels`.
        max_pixels: See `decode_pixels`.

    Returns:
        The size; None for what `decode_pixels` refuses by its header.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with path.open("rb") as file:
            start = file.read(len(_NPY))
        if start == _NPY:
            height, width, _ = _plan(np.load(path, mmap_mode="r", allow_pickle=False).shape, channels)
            return width, height
        if start[:4] in PREFIXES:  # of these, versions of Pillow differ in whether the size is that of the upright
            return _tiff_size(path, channels, max_pixels)
        with Image.open(path, formats=FORMATS) as image:
            return image.size if read_orientation(image) < 5 else (image.height, image.width)
    except Exception:  # damaged files raise nearly every kind of exception
        return None


def count_channels(data: bytes) -> int | None:
    """Channels that a file has, as far as its header tells; None if it cannot be opened."""
    try:
        if data.startswith(_NPY):
            return _count(_npy_shape(data))
        if data[:4] in PREFIXES and (found := _tiff_channels(data)):
            return found
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return 3 if image.mode in ("P", "CMYK") else len(image.getbands())
    except Exception:
        return None


def _tiff_size(path: Path, channels: int, max_pixels: int) -> tuple[int, int]:
    if channels != 3:
        return tiff_size(path, lambda shape: _plan(shape, channels))
    with contextlib.suppress(Exception):
        size = tiff_size(path, None)
        with Image.open(path, formats=FORMATS) as image:
            if image.size == size and read_orientation(image) < 5:
                return size
    # turned, not for Pillow, or damaged so that its readers see it differently
    height, width, _ = decode_pixels(path.read_bytes(), channels=3, max_pixels=max_pixels, min_side=1).shape
    return width, height


def _tiff_channels(data: bytes) -> int | None:
    """None as well for files of damaged pages, of which Pillow may still read the first."""
    try:
        shape = tiff_shape(data)
    except Exception:
        return None
    return 3 if shape is None else _count(shape)


def _decode_bands(data: bytes, channels: int, max_pixels: int, min_side: int) -> np.ndarray:
    if not data:
        raise BadImage("empty file")
    Image.MAX_IMAGE_PIXELS = max_pixels

    def plan(shape: tuple[int, ...]) -> tuple[int, int, int | None]:
        height, width, axis = _plan(shape, channels)
        if height * width > max_pixels:
            raise BadImage(f"too many pixels (more than {max_pixels})")
        if min(height, width) < min_side:
            raise BadImage(f"too small ({width} x {height}, shorter side below {min_side})")
        return height, width, axis

    try:
        if data.startswith(_NPY):
            axis = plan(_npy_shape(data))[2]
            return _settle(np.load(io.BytesIO(data), allow_pickle=False), axis)
        if data[:4] in PREFIXES:
            decoded = decode_tiff(data, plan, _settle)
            if decoded is not None:
                return decoded  # else Pillow may know the compression
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_mode(image, channels)
            axis = plan((image.height, image.width, len(image.getbands())))[2]
            image.load()
            upright = turn_upright(image)
            pixels = np.asarray(upright.convert("L") if upright.mode == "1" else upright)
            return _settle(pixels if pixels.ndim == 3 else pixels[..., None], axis)
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"too many pixels (more than {max_pixels})") from None
    except Image.UnidentifiedImageError:
        compressed = data[:4] in PREFIXES
        raise BadImage(
            "compressed in a way that is not read; save it without" if compressed else NOT_AN_IMAGE
        ) from None
    except Exception as error:  # damaged files raise nearly every kind of exception
        text = " ".join(str(error).split())[:80]
        raise BadImage(f"damaged ({type(error).__name__}: {text})") from None


def _npy_shape(data: bytes) -> tuple[int, ...]:
    """Shape of an NPY file; refuses other values than numbers, and a header that promises more than there is."""
    stream = io.BytesIO(data)
    read_header = _HEADERS.get(np.lib.format.read_magic(stream))
    if read_header is None:
        raise BadImage("not an NPY file of numbers")
    shape, _, kind = read_header(stream)
    if kind.kind not in _KINDS:
        raise BadImage(f"values of type {kind}, not numbers")
    if math.prod(shape) * kind.itemsize > len(data) - stream.tell():
        raise BadImage("truncated")
    return shape


def _check_mode(image: Image.Image, channels: int) -> None:
    found = 3 if image.mode in ("P", "CMYK", "YCbCr") else len(image.getbands())
    if found != channels or image.mode not in _MODES:
        raise BadImage(_miscounted(found, channels))


def _plan(shape: tuple[int, ...], channels: int) -> tuple[int, int, int | None]:
    """Height, width, and the axis of the channels: the last or the first of three; None for grey without one."""
    sides = _without_ones(shape)
    if len(sides) == 2:
        if channels != 1:
            raise BadImage(_miscounted(1, channels))
        return *sides, None
    if len(sides) == 3 and sides[-1] == channels:
        return *sides[:2], -1
    if len(sides) == 3 and sides[0] == channels:
        return *sides[1:], 0
    found = _count(shape)
    raise BadImage(_miscounted(found, channels) if found else f"of shape {'x'.join(map(str, shape))}, not an image")


def _count(shape: tuple[int, ...]) -> int | None:
    sides = _without_ones(shape)
    return {2: 1, 3: min(sides[0], sides[-1])}.get(len(sides)) if sides else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _miscounted(found: int, channels: int) -> str:
    return f"{found} channel{'s' * (found != 1)}, but data.channels is {channels}"


def _settle(pixels: np.ndarray, axis: int | None) -> np.ndarray:
    """(H, W, channels) of values that can be computed with."""
    if pixels.dtype.kind not in _KINDS:
        raise BadImage(f"values of type {pixels.dtype}, not numbers")
    pixels = pixels.reshape(_without_ones(pixels.shape))
    if axis is None:
        pixels = pixels[..., None]
    elif axis == 0:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadImage("values that are not finite (NaN or infinity)")
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _to_rgb(pixels: np.ndarray) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    levels = pixels.astype(np.float64)
    if pixels.dtype.kind == "f" and levels.min() >= 0 and levels.max() <= 1:
        levels *= 255
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
