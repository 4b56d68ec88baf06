"""In which cell of its frame each pixel of a view lies."""

from __future__ import annotations

import torch

from pipeline.data.views import Geometric


def view_cells(crop: Geometric, cells: int, size: tuple[int, int]) -> torch.Tensor:
    """Find the pyramid cell that each pixel of a cropped and mirrored view shows.

    Args:
        crop: The geometric transform of B images.
        cells: Cells a side of the level.
        size: Height h and width w of the view's map.

    Returns:
        int64 (B, h, w), cells counted row by row; of the cell in which the pixel's centre lies.
    """
    h, w = size
    x0, y0, x1, y1 = (side.double()[:, None, None] for side in crop.boxes.unbind(1))
    u = (torch.arange(w, dtype=torch.float64) + 0.5)[None, None, :] / w
    v = (torch.arange(h, dtype=torch.float64) + 0.5)[None, :, None] / h
    across, down = crop.place(u, v)  # (B, h, w)
    columns = ((x0 + (x1 - x0) * across) * cells).long().clamp(0, cells - 1)
    rows = ((y0 + (y1 - y0) * down) * cells).long().clamp(0, cells - 1)
    return rows * cells + columns


def whole_frames(count: int) -> Geometric:
    """The transform of `count` frames that changes nothing."""
    return Geometric(torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1), torch.zeros(count, dtype=torch.bool))


def pixel_labels(labels: torch.Tensor, crop: Geometric, cells: int, size: tuple[int, int]) -> torch.Tensor:
    """Give each pixel of a view the pyramid label of its cell.

    Args:
        labels: int64 (B, cells^2), of the cells of each image.
        crop: See `view_cells`, as `cells` and `size`.
        cells: See there.
        size: See there.

    Returns:
        int64 (B, h, w), -1 where a cell has none.
    """
    return labels.gather(1, view_cells(crop, cells, size).flatten(1)).view(-1, *size)
