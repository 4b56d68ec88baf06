"""The mean over a window of neighbours around each pixel."""

from __future__ import annotations

from functools import lru_cache

import torch

from pipeline.runtime.sparing import on_release

EXCLUDED = -1e4  # in place of minus infinity, so that a pixel without any neighbour gives no NaN
BAND = 16  # rows of queries per matrix product; bounds the memory on large maps


def window_mean(
    values: torch.Tensor,
    *,
    alike: torch.Tensor,
    radius: int,
    dilation: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool = True,
) -> torch.Tensor:
    """Mean of the neighbours' values, weighted by likeness and nearness.

    Neighbours lie `dilation` cells apart, so the map falls into dilation^2 interleaved lattices that never mix. In
    each of them the window is dense, and a band of rows is two matrix products under a fixed mask: no loop over
    neighbours, and no tensor that holds every neighbour's values.

    Args:
        values: (B, D, h, w).
        alike: float32 (B, A, h, w); the inner product of two pixels is their likeness. Gradients flow through it
            unless it is detached.
        radius: Neighbours a side.
        dilation: Cells between neighbours.
        sigma: Spatial scale in cells; a tensor of no dimension gets a gradient.
        temperature: Of the likeness; a tensor of no dimension gets a gradient.
        exclude_self: Whether a pixel is left out of its own mean.

    Returns:
        (B, D, h, w) in the dtype of `values`; 0 where a pixel has no neighbour inside the map.
    """
    values, alike = values.permute(0, 2, 3, 1), alike.permute(0, 2, 3, 1)
    means = torch.zeros_like(values)
    for y in range(min(dilation, values.shape[1])):
        for x in range(min(dilation, values.shape[2])):
            lattice = (slice(None), slice(y, None, dilation), slice(x, None, dilation))
            means[lattice] = _lattice_mean(
                values[lattice],
                alike[lattice].to(values.dtype),
                radius,
                sigma / dilation,
                temperature,
                exclude_self,
            )
    return means.permute(0, 3, 1, 2)


def _lattice_mean(
    values: torch.Tensor,
    alike: torch.Tensor,
    radius: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool,
) -> torch.Tensor:
    """`window_mean` for dilation 1, on (B, rows, cols, D) and (B, rows, cols, A)."""
    rows, cols = values.shape[1:3]
    bands = []
    for top in range(0, rows, BAND):
        bottom = min(top + BAND, rows)
        first, last = max(top - radius, 0), min(bottom + radius, rows)
        prior = _prior if isinstance(sigma, torch.Tensor) else _fixed_prior
        bias, alone = prior(bottom - top, last - first, top - first, cols, radius, sigma, exclude_self, values.device)
        queries, keys = alike[:, top:bottom].flatten(1, 2), alike[:, first:last].flatten(1, 2)
        if isinstance(temperature, torch.Tensor):
            queries, alpha = queries / temperature, 1.0
        else:
            alpha = 1 / temperature
        affinity = torch.baddbmm(bias.to(values.dtype), queries, keys.transpose(1, 2), alpha=alpha)
        affinity = affinity.softmax(dim=2).masked_fill(alone, 0.0)  # (B, band * cols, halo * cols)
        mean = torch.bmm(affinity, values[:, first:last].flatten(1, 2))
        bands.append(mean.unflatten(1, (bottom - top, cols)))
    return torch.cat(bands, dim=1)


def _prior(
    band: int,
    halo: int,
    offset: int,
    cols: int,
    radius: int,
    sigma: float | torch.Tensor,
    exclude_self: bool,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The spatial prior of a band of queries over the rows around it.

    Args:
        band: Rows of queries.
        halo: Rows of keys.
        offset: First query row, counted in key rows.
        cols: Columns of both.

    Returns:
        float32 (1, band * cols, halo * cols), `EXCLUDED` outside the window and, if asked, for the pixel itself, and
        bool (band * cols, 1): queries without any neighbour.
    """
    dy = torch.arange(offset, offset + band, device=device)[:, None] - torch.arange(halo, device=device)[None, :]
    dx = torch.arange(cols, device=device)[:, None] - torch.arange(cols, device=device)[None, :]
    squared = (dy[:, None, :, None] ** 2 + dx[None, :, None, :] ** 2).float()  # (band, cols, halo, cols)
    near = (dy.abs() <= radius)[:, None, :, None] & (dx.abs() <= radius)[None, :, None, :]
    if exclude_self:
        near = near & (squared > 0)
    bias = torch.where(near, -squared / (2 * sigma**2), torch.full((), EXCLUDED, device=device))
    return bias.flatten(2).flatten(0, 1)[None], ~near.flatten(2).flatten(0, 1).any(1, keepdim=True)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor that is first made for inference must serve training as well
def _fixed_prior(
    band: int,
    halo: int,
    offset: int,
    cols: int,
    radius: int,
    sigma: float,
    exclude_self: bool,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_prior`, remembered, for a sigma that does not change."""
    return _prior(band, halo, offset, cols, radius, sigma, exclude_self, device)


on_release(_fixed_prior.cache_clear)
