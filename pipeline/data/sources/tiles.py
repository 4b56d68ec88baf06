"""Cuts large images into tiles, a file each, as later stages read one file an image; masks stay whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pipeline.data.images import BadImage
from pipeline.data.pixels import decode_pixels, read_size
from pipeline.data.sources.listing import SourceImage
from pipeline.data.windows import Window
from pipeline.errors import InputError
from pipeline.params import DataParams


def lay_tiles(sources: list[SourceImage], params: DataParams, published: int = 0) -> list[SourceImage]:
    """Put tiles in the place of images; only headers are read.

    Args:
        sources: Whole images.
        params: Group `data`; `tile` 0 leaves them whole, unless the source has tiles of its own.
        published: Side of the source's own tiles in pixels, which its images must fill; 0: none.

    Returns:
        The tiles of each image, row by row; their ids are that of the image with their place in pixels, such as
        "train/a.tif/y00400x00800.png"; the source's own tiles have rows and columns there, as in "train/a/r01c02.png".
        An image that cannot be opened stays, to be set aside later.

    Raises:
        InputError: An image is smaller than a tile of its source.
    """
    side = params.tile or published
    if not side:
        return sources
    ending = "png" if params.channels == 3 else "npy"
    tiles = []
    for source in sources:
        whole = read_size(source.path, channels=params.channels, max_pixels=params.max_pixels)
        if whole is None:
            tiles.append(source)
            continue
        if not params.tile and min(whole) < side:
            raise InputError(
                f"{source.path}: {whole[0]} x {whole[1]} pixels are less than a tile of {side}; download it again"
            )
        for window in grid_windows(whole, side, params.tile_overlap):
            if params.tile:
                image_id = f"{source.image_id}/y{window.y:05d}x{window.x:05d}.{ending}"
            else:
                stem = PurePosixPath(source.image_id).with_suffix("")
                image_id = f"{stem}/r{window.y // side:02d}c{window.x // side:02d}.{ending}"
            tiles.append(replace(source, image_id=image_id, window=window))
    return tiles


def grid_windows(whole: tuple[int, int], side: int, overlap: int) -> list[Window]:
    """Tiles that cover an image.

    The last of a row or column is moved back so that it ends with the image. Where tiles overlap, each pixel belongs to
    the tile in which it lies further from the border: what two neighbours share is divided in its middle.

    Args:
        whole: Width and height of the image in pixels.
        side: Of a tile; a side of the image that is shorter has one tile of its length.
        overlap: Pixels that neighbours share, less than `side`.

    Returns:
        The tiles, row by row; `own` is set where the tile has pixels of another.
    """
    width, height = whole
    windows = []
    for y, tall, top, bottom in _spans(height, side, overlap):
        for x, wide, left, right in _spans(width, side, overlap):
            own = (left, top, right - left, bottom - top)
            tile = (x, y, wide, tall)
            windows.append(Window(*tile, whole, None if own == tile else own))
    return windows


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Start and length of each tile along one axis, and start and end of what belongs to it."""
    step, side = side - overlap, min(side, length)
    starts = [*range(0, length - side, step), length - side]
    borders = [0, *((one + side + other) // 2 for one, other in pairwise(starts)), length]
    return [(start, side, *own) for start, own in zip(starts, pairwise(borders), strict=True)]


def cut_tiles(sources: list[SourceImage], folder: Path, params: DataParams) -> list[SourceImage]:
    """Write the tiles among the images as files: PNG of RGB, NPY of other channels in their own values.

    Args:
        sources: Images; those without a window are passed on.
        folder: Where to write; a tile's file is its id.
        params: Group `data`.

    Returns:
        The same images; the paths of tiles are those of the files. Tiles of an image that cannot be decoded keep its
        path, so that they are set aside with the reason.

    Raises:
        InputError: An image has not the size that was listed.
    """
    cut = []
    for path, tiles in groupby(sources, key=lambda source: source.path):
        members = list(tiles)
        if members[0].window is None:
            cut += members
            continue
        try:
            pixels = decode_pixels(
                path.read_bytes(), channels=params.channels, max_pixels=params.max_pixels, min_side=params.min_side
            )
        except (OSError, BadImage):
            cut += members
            continue
        for tile in members:
            window = tile.window
            if window is None or window.whole != (pixels.shape[1], pixels.shape[0]):
                raise InputError(f"{path}: its size has changed while it was read; run the stage again")
            part = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
            place = folder / tile.image_id
            place.parent.mkdir(parents=True, exist_ok=True)
            if params.channels == 3:
                Image.fromarray(part).save(place, compress_level=6)
            else:
                np.save(place, part, allow_pickle=False)
            cut.append(replace(tile, path=place))
    return cut
