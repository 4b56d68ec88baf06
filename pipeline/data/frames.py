"""The frame in which every stage after `prepare` sees an image: short side, crop, and the same for masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.params import STRIDE

LONGEST = 3  # a frame is at most this many times as long as it is wide


@dataclass(frozen=True)
class Frame:
    """How images are brought to a common size.

    Attributes:
        resize: Length in pixels to which the short side of the image is brought; a multiple of 32, unless `crop_size`
            cuts it.
        crop: "center" keeps a square in the middle; "none" the whole image, but for what is trimmed centrally
            off the long side to get a multiple of 32 and at most three times the short side.
        crop_size: Side of the square in pixels, a multiple of 32, at most `resize`; 0: the whole short side.
    """

    resize: int
    crop: str
    crop_size: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no frame has."""
        legal = self.crop in ("center", "none") and STRIDE <= self.side <= self.resize and self.side % STRIDE == 0
        if not legal or (self.crop_size and self.crop == "none"):
            raise ValueError(f"not a frame: {self}")

    @property
    def side(self) -> int:
        """Short side of the frame in pixels, a multiple of 32."""
        return self.crop_size or self.resize


def frame_size(width: int, height: int, frame: Frame) -> tuple[int, int]:
    """Size of the frame of an image.

    Args:
        width: Of the image in pixels, from 1; likewise `height`.
        height: See `width`.
        frame: How to frame.

    Returns:
        (h, w) in pixels, both multiples of 32.
    """
    if frame.crop == "center":
        return frame.side, frame.side
    short, long = sorted((width, height))
    long_side = min(long * frame.resize // (short * STRIDE) * STRIDE, LONGEST * frame.resize)
    return (long_side, frame.resize) if height > width else (frame.resize, long_side)


def frame_box(width: int, height: int, frame: Frame) -> tuple[float, float, float, float]:
    """The part of an image that its frame shows.

    Returns:
        (left, top, right, bottom) in pixels of the image; left and top are whole numbers, so that an image of the
        frame's own scale is not resampled.
    """
    h, w = frame_size(width, height, frame)
    short = min(width, height)
    extent_x, extent_y = w * short / frame.resize, h * short / frame.resize
    left, top = math.floor((width - extent_x) / 2), math.floor((height - extent_y) / 2)
    return float(left), float(top), left + extent_x, top + extent_y


def to_frame(image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Bring an image into its frame, antialiased (Pillow's bilinear filter); small images are enlarged.

    Args:
        image: uint8 (H, W, C).
        frame: How to frame.

    Returns:
        uint8 (C, h, w) of the size that `frame_size` tells.
    """
    height, width = image.shape[:2]
    h, w = frame_size(width, height, frame)
    left, top, right, bottom = frame_box(width, height, frame)
    x, y = int(left), int(top)
    # cut first: an image of 1 x 10000 pixels must not be enlarged as a whole
    part = image[y : math.ceil(bottom), x : math.ceil(right)]
    box = (0.0, 0.0, right - left, bottom - top)

    def resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        framed = Image.fromarray(np.ascontiguousarray(pixels)).resize((w, h), Image.Resampling.BILINEAR, box=box)
        return np.asarray(framed)

    if image.shape[2] != 3:  # Pillow knows no such images
        return np.stack([resized(part[..., channel]) for channel in range(image.shape[2])])  # (C, h, w)
    return np.ascontiguousarray(resized(part).transpose(2, 0, 1))  # (3, h, w)


def mask_to_frame(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """Bring a mask into the frame of its image: the same geometry, the nearest pixel's value.

    Args:
        mask: (H, W) of any dtype.
        frame: How to frame.

    Returns:
        (h, w) of the same dtype; the value at the centre of each pixel of the frame.
    """
    height, width = mask.shape
    h, w = frame_size(width, height, frame)
    left, top, right, bottom = frame_box(width, height, frame)
    columns = np.floor(left + (np.arange(w) + 0.5) * ((right - left) / w)).astype(np.int64)
    rows = np.floor(top + (np.arange(h) + 0.5) * ((bottom - top) / h)).astype(np.int64)
    return mask[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)[None, :]]
