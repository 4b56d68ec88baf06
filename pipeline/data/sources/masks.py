"""Checks masks by their headers against the images that they belong to; nothing is decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image

from pipeline.data.images import FORMATS
from pipeline.data.sources.listing import SourceImage
from pipeline.data.windows import Window
from pipeline.errors import InputError

_PNG_START = b"\x89PNG\r\n\x1a\n"
_COLOURS = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}


def check_source_mask(source: SourceImage, data: bytes, size: tuple[int, int]) -> None:
    """Check the mask of an image, or of the image that a tile is cut from.

    Args:
        source: The image, with its mask.
        data: The bytes of the mask's file.
        size: Width and height of the image in pixels, after the EXIF rotation.

    Raises:
        InputError: The mask does not fit.
    """
    assert source.mask_path is not None
    if source.window is None:
        check_mask(source.mask_path, data, source.path, *size)
    elif source.mask_path.suffix.lower() == ".png":
        check_mask(source.mask_path, data, Path(source.image_id).parent, *source.window.whole)
    else:  # of the sources, Potsdam alone has masks of colours, and no PNG
        check_colour_mask(source.mask_path, data, source.window)


def check_mask(mask: Path, data: bytes, image: Path, width: int, height: int) -> None:
    """Check by its header, without decoding it, that a mask fits its image.

    Args:
        mask: The mask's path, for messages; likewise `image`.
        data: The bytes of the mask's file.
        image: See `mask`.
        width: Of the image in pixels, after the EXIF rotation; likewise `height`.
        height: See `width`.

    Raises:
        InputError: The mask is no PNG of one channel of 1, 8 or 16 bits (or a palette), or of another size.
    """
    if len(data) < 26 or data[:8] != _PNG_START or data[12:16] != b"IHDR":
        raise InputError(f"{mask}: not a PNG file; masks are PNG files of class ids, so replace or remove it")
    mask_width, mask_height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if colour != 3 and (colour != 0 or depth in (2, 4)):
        mode = _COLOURS.get(colour, f"grey of {depth} bits" if colour == 0 else f"of colour type {colour}")
        raise InputError(f"{mask}: the mask is {mode}; save it with one channel of class ids (8-bit grey or palette)")
    if (mask_width, mask_height) != (width, height):
        raise InputError(
            f"{mask}: the mask is {mask_width} x {mask_height}, but its image {image} is {width} x {height} (after "
            "its EXIF rotation); give both the same size, or remove the mask"
        )


def check_colour_mask(mask: Path, data: bytes, window: Window) -> None:
    """Check by its header, without decoding it, that a colour mask fits the image that tiles are cut from.

    Args:
        mask: The mask's path, for messages.
        data: The bytes of the mask's file.
        window: A tile of the image.

    Raises:
        InputError: The mask is no colour picture, or of another size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            mode, size = header.mode, header.size
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{mask}: the mask cannot be opened ({error}); download it again") from None
    if mode != "RGB":
        raise InputError(f"{mask}: the mask is of mode {mode}, not a colour picture; download it again")
    if size != window.whole:
        raise InputError(
            f"{mask}: the mask is {size[0]} x {size[1]}, but its image is {window.whole[0]} x {window.whole[1]}; give "
            "both the same size"
        )
