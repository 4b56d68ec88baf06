"""Cuts tiles of large images into files, as later stages read one file an image; masks stay whole."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from PIL import Image

from pipeline.data.images import FORMATS, BadImage, decode_image
from pipeline.data.sources.listing import SourceImage
from pipeline.data.windows import Window
from pipeline.errors import InputError


def cut_tiles(sources: list[SourceImage], folder: Path, max_pixels: int) -> list[SourceImage]:
    """Write the tiles among the images as PNG files.

    Args:
        sources: Images; those without a window are passed on.
        folder: Where to write; a tile's file is its id.
        max_pixels: Larger images are refused.

    Returns:
        The same images; the paths of tiles are those of the files.

    Raises:
        InputError: An image cannot be decoded, or has not the size that was listed.
    """
    cut = []
    for path, tiles in groupby(sources, key=lambda source: source.path):
        members = list(tiles)
        if members[0].window is None:
            cut += members
            continue
        try:
            pixels = decode_image(path.read_bytes(), max_pixels=max_pixels, min_side=1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
        except BadImage as error:
            raise InputError(f"{path}: cannot be cut into tiles ({error}); download it again") from None
        for tile in members:
            window = tile.window
            if window is None or window.whole != (pixels.shape[1], pixels.shape[0]):
                raise InputError(f"{path}: its size has changed while it was read; run the stage again")
            part = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
            place = folder / tile.image_id
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part).save(place, compress_level=6)
            cut.append(replace(tile, path=place))
    return cut


def check_tile_mask(mask: Path, data: bytes, window: Window) -> None:
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
