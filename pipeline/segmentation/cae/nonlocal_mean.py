"""The mean over the most alike cells of the whole map, near or far."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.segmentation.cae.window import EXCLUDED

BLOCK = 2**23  # pairs of cells, over the whole batch, that are compared at once: 32 MiB of float32


def nonlocal_mean(
    values: torch.Tensor,
    *,
    alike: torch.Tensor,
    top: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool = True,
) -> torch.Tensor:
    """Mean of the values of the `top` cells with the highest likeness and spatial prior together.

    Every cell is compared with every other, in blocks; only the chosen ones are kept, so that memory grows with the
    number of cells and not with its square. The choice itself carries no gradient.

    Args:
        values: (B, D, h, w).
        alike: float32 (B, A, h, w); the inner product of two pixels is their likeness. Gradients flow through it
            unless it is detached.
        top: Cells to take; all of a smaller map.
        sigma: Spatial scale in cells; a tensor of no dimension gets a gradient.
        temperature: Of the likeness; a tensor of no dimension gets a gradient.
        exclude_self: Whether a pixel is left out of its own mean.

    Returns:
        (B, D, h, w) in the dtype of `values`; 0 on a map of one cell if `exclude_self`.
    """
    B, D, h, w = values.shape
    units = alike.flatten(2).transpose(1, 2)  # (B, h * w, A)
    top = min(top, h * w)
    found = _find_top(units.detach().to(values.dtype), (h, w), top, sigma, temperature, exclude_self)
    found = found + h * w * torch.arange(B, device=values.device)[:, None, None]  # rows of the whole batch
    cells = torch.arange(h * w, device=values.device)
    squared = _squared_distances(cells[:, None], found % (h * w), w)  # (B, h * w, top)
    logits = _compare(units, found) / temperature - squared / (2 * sigma**2)
    if exclude_self:
        logits = logits.masked_fill(squared == 0, EXCLUDED)
    affinity = logits.softmax(dim=2)
    if exclude_self:
        affinity = affinity.masked_fill(squared == 0, 0.0)
    # a weighted sum of rows without a tensor that holds every row `top` times
    means = F.embedding_bag(
        found.flatten(0, 1),
        values.flatten(2).transpose(1, 2).flatten(0, 1).float(),
        mode="sum",
        per_sample_weights=affinity.flatten(0, 1),
    )
    return means.to(values.dtype).view(B, h, w, D).permute(0, 3, 1, 2)


@torch.no_grad()
def _find_top(
    units: torch.Tensor,
    size: tuple[int, int],
    top: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool,
) -> torch.Tensor:
    """The chosen cells of each cell, int64 (B, h * w, top), from units (B, h * w, A)."""
    rows, cols = (torch.arange(side, device=units.device) for side in size)
    cells = torch.arange(size[0] * size[1], device=units.device)
    chosen = []
    step = max(1, BLOCK // (len(units) * len(cells)))
    for block, queries in zip(cells.split(step), units.split(step, dim=1), strict=True):
        dy, dx = (block // size[1])[:, None] - rows, (block % size[1])[:, None] - cols
        prior = (dy**2).float()[:, :, None] + (dx**2).float()[:, None, :]  # (block, h, w)
        prior = prior.flatten(1) / (-2 * sigma**2)
        if exclude_self:
            prior.scatter_(1, block[:, None], EXCLUDED)
        logits = torch.baddbmm(prior.to(units.dtype)[None], queries / temperature, units.transpose(1, 2))
        chosen.append(logits.topk(top, dim=2, sorted=False).indices)  # (B, block, top)
    return torch.cat(chosen, dim=1)


def _compare(units: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Likeness of each cell and its chosen ones, rows of the whole batch; float32 (B, h * w, top)."""
    B, cells, channels = units.shape
    rows = units.flatten(0, 1)
    step = max(1, BLOCK // (found.shape[2] * channels))

    def compare(rows: torch.Tensor, queries: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        return (F.embedding(block, rows) * queries[:, None]).sum(2)

    # the rows of a block are gathered again on the way back: kept, they would take `top` times the map
    parts = [
        checkpoint(compare, rows, queries, block, use_reentrant=False, preserve_rng_state=False)
        for queries, block in zip(rows.split(step), found.flatten(0, 1).split(step), strict=True)
    ]
    return torch.cat(parts).view(B, cells, -1)


def _squared_distances(one: torch.Tensor, other: torch.Tensor, cols: int) -> torch.Tensor:
    """Squared distances in cells, float32, of cells that are given by their index in a map of `cols` columns."""
    return ((one // cols - other // cols) ** 2 + (one % cols - other % cols) ** 2).float()
