"""From frames to one vector per cell: pool the map of the whole frame, or encode each cell on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor
from typing import Literal

import torch
from torch.nn.functional import interpolate

from pipeline.features.pooling import cell_boxes, pool_cells

Encode = Callable[[torch.Tensor], torch.Tensor]  # uint8 (B, 3, h, w) -> float32 (B, D, h', w')


def encode_cells(
    frames: torch.Tensor,
    levels: Sequence[int],
    encode: Encode,
    *,
    mode: Literal["pool", "crop"],
    check_stop: Callable[[], None],
) -> torch.Tensor:
    """Compute the raw vectors of all cells of all levels.

    Args:
        frames: uint8 (B, 3, h, w).
        levels: Cells a side of each level.
        encode: The frozen backbone.
        mode: "pool" encodes the frame once; "crop" every cell, enlarged to the frame's size.
        check_stop: Called before each call of `encode`.

    Returns:
        float32 (B, cells of all levels, D) on the CPU.
    """
    check_stop()
    with torch.inference_mode():
        if mode == "pool":
            features = encode(frames)  # (B, D, h', w')
            return torch.cat([pool_cells(features, level) for level in levels], dim=1).cpu()
        vectors = []
        for level in levels:
            for crop in _crop_cells(frames, level):
                check_stop()
                vectors.append(pool_cells(encode(crop), 1).cpu())  # (B, 1, D)
        return torch.cat(vectors, dim=1)


def fill_batch(frames: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Repeat the last frame until the batch is full.

    Libraries choose another order of summation for another batch size. In batches of one size the vectors of an image
    do not depend on which images it is encoded with, so that features of an earlier run and new ones fit together.

    Args:
        frames: uint8 (B, 3, h, w), at least one.
        batch_size: At least B.

    Returns:
        uint8 (batch_size, 3, h, w); a full batch as it is.
    """
    if len(frames) == batch_size:
        return frames
    return torch.cat([frames, frames[-1:].expand(batch_size - len(frames), -1, -1, -1)])


def _crop_cells(frames: torch.Tensor, level: int) -> Iterator[torch.Tensor]:
    """One cell of all frames after the other, cut at whole pixels and resized to the frame's size, uint8."""
    height, width = frames.shape[-2:]
    for y0, x0, y1, x1 in cell_boxes(level, height, width).tolist():
        cell = frames[..., floor(y0) : ceil(y1), floor(x0) : ceil(x1)].float()  # at least one pixel
        resized = interpolate(cell, (height, width), mode="bilinear", antialias=True, align_corners=False)
        yield resized.round().clamp(0, 255).to(torch.uint8)
