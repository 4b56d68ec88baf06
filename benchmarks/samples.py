"""Images and points for timings: made up, but smooth enough that JPEG and clusterings have their usual work."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable


def draw_pixels(index: int, height: int, width: int) -> np.ndarray:
    """A smooth random picture with some noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int, height: int, width: int, frame: Frame) -> ImageTable:
    """Write JPEG files and list them as stage prepare does, all in split train."""
    rows = []
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(draw_pixels(index, height, width)).save(path, quality=90)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(ImageRow(path.name, "train", path.as_posix(), width, height, sha256, "ok"))
    return ImageTable(rows, frame, 10**8, 16)


def draw_points(count: int, dimension: int, seed: int) -> np.ndarray:
    """A mixture of 40 overlapping groups on the sphere, float32 (count, dimension)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, dimension), np.float32)
    points = centres[rng.integers(40, size=count)] + 1.5 * rng.standard_normal((count, dimension), np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
