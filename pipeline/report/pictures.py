"""Pictures as data URIs, small and the same bytes for the same pixels."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST_SIDE = 256  # pixels; the page shows nothing larger, so more would only be weight
_JPEG_QUALITY = 85


def photo_uri(image: NDArray[np.uint8], side: int = LARGEST_SIDE) -> str:
    """Encode a photo as JPEG.

    Args:
        image: RGB image of shape (H, W, 3), uint8.
        side: Longest side in pixels; larger images are reduced, smaller ones stay.

    Returns:
        A data URI.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _uri(picture, "JPEG", quality=_JPEG_QUALITY, optimize=True)


def painted_uri(image: NDArray[np.uint8], side: int = LARGEST_SIDE) -> str:
    """Encode a painted label map as PNG, without mixing colours.

    Args:
        image: RGB image of shape (H, W, 3), uint8.
        side: Longest side in pixels; larger images are reduced by nearest neighbour, smaller ones stay.

    Returns:
        A data URI.
    """
    picture = Image.fromarray(image)
    scale = side / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(length * scale)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
    return _uri(_indexed(picture), "PNG", optimize=True)


def read_picture(data: bytes) -> NDArray[np.uint8]:
    """Decode one of the pipeline's own pictures.

    Args:
        data: The bytes of a PNG file.

    Returns:
        RGB image of shape (H, W, 3), uint8.
    """
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGB"))


def _indexed(picture: Image.Image) -> Image.Image:
    """The same pixels with a colour table, a third of the bytes, where there are few enough colours."""
    pixels = np.asarray(picture)
    colours, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return picture
    indexed = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), mode="P")
    indexed.putpalette(colours.astype(np.uint8).tobytes())
    return indexed


def _uri(picture: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
