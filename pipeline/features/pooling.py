"""Averages of a feature map over the equal cells of a pyramid level."""

from __future__ import annotations

import numpy as np
import torch


def pool_cells(feature_map: torch.Tensor, level: int) -> torch.Tensor:
    """Average a map over each of level × level equal cells, every pixel weighted by its overlap with the cell.

    The map is taken as constant over each of its pixels, so that cells need not end where pixels do, and a map
    coarser than the grid still gives exact averages.

    Args:
        feature_map: (B, D, h, w) of any floating type, on any device; half precision is averaged in float32, also under
            autocast.
        level: Cells a side.

    Returns:
        (B, level * level, D), rows of cells first; float64 for a float64 map, else float32. Differentiable.
    """
    B, D, h, w = feature_map.shape
    with torch.autocast(feature_map.device.type, enabled=False):
        values = feature_map if feature_map.dtype == torch.float64 else feature_map.float()
        down = torch.from_numpy(overlap_weights(level, h)).to(values)  # (level, h)
        across = torch.from_numpy(overlap_weights(level, w)).to(values)  # (level, w)
        # channels last, as networks leave them: neither product has to copy the map
        rows = down @ values.permute(0, 2, 3, 1).reshape(B, h, w * D)  # (B, level, w * D)
        cells = across @ rows.view(B * level, w, D)  # (B * level, level, D)
        return cells.view(B, level * level, D)


def overlap_weights(cells: int, pixels: int) -> np.ndarray:
    """Share that each of `pixels` equal intervals has in each of `cells` equal intervals of the same line.

    Args:
        cells: Number of intervals that are averaged over.
        pixels: Number of intervals with a value.

    Returns:
        float64 (cells, pixels); rows sum to 1.
    """
    # in units of 1 / (cells * pixels) of the line all ends are whole numbers
    cell, pixel = np.arange(cells)[:, None] * pixels, np.arange(pixels)[None, :] * cells
    overlap = np.minimum(cell + pixels, pixel + cells) - np.maximum(cell, pixel)
    return np.maximum(overlap, 0) / pixels


def cell_boxes(level: int, height: int, width: int) -> np.ndarray:
    """Where the cells of a level lie in a frame.

    Args:
        level: Cells a side.
        height: Of the frame in pixels; likewise `width`.
        width: See `height`.

    Returns:
        float32 (level * level, 4): y0, x0, y1, x1 in pixels, ends exclusive, rows of cells first.
    """
    y = np.arange(level + 1) * height / level
    x = np.arange(level + 1) * width / level
    row, column = (part.ravel() for part in np.indices((level, level)))
    return np.stack([y[row], x[column], y[row + 1], x[column + 1]], axis=1).astype(np.float32)
