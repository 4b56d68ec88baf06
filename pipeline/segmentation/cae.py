"""Context-aware embedding (CAE): a pixel's embedding takes in neighbours close in space and alike in appearance.

    a_pq = softmax over q in N(p), q != p, of  stopgrad(cos(F_p, F_q)) / tau - |p - q|^2 / (2 sigma^2)
    e_p  = normalise(F_p + gamma * BN(sum_q a_pq g(F_q)))

The paper asks for a *non-trivial* use of neighbours. Three guards are its reading here: a pixel is not its own
neighbour, affinities carry no gradient (else the net can satisfy them by making everything alike), and temperatures
are not learned.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

EXCLUDED = -1e4  # in place of minus infinity, so that a pixel without any neighbour gives no NaN
BAND = 16  # rows of queries per matrix product; bounds the memory on large maps


class ContextAwareEmbedding(nn.Module):
    """The CAE module; with gamma 0 it is plain normalisation, and gamma still gets a gradient.

    Args:
        channels: D.
        radius: Neighbours a side, so that there are (2 radius + 1)^2 - 1.
        dilation: Cells between neighbours.
        sigma: Spatial scale in cells.
        temperature: Of the appearance affinity.
        gamma: Start of the learned weight of the context.
    """

    def __init__(
        self, channels: int, *, radius: int, dilation: int, sigma: float, temperature: float, gamma: float
    ) -> None:
        super().__init__()
        self.radius, self.dilation, self.sigma, self.temperature = radius, dilation, sigma, temperature
        self.transform = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.gamma = nn.Parameter(torch.tensor(float(gamma)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embed.

        Args:
            features: (B, D, h, w), the decoder's map.

        Returns:
            float32 (B, D, h, w), unit norm over D.
        """
        context = neighbour_mean(
            self.transform(features),
            appearance=features.detach(),
            radius=self.radius,
            dilation=self.dilation,
            sigma=self.sigma,
            temperature=self.temperature,
        )
        return F.normalize(features.float() + self.gamma * self.norm(context).float(), dim=1)


def neighbour_mean(
    values: torch.Tensor,
    *,
    appearance: torch.Tensor,
    radius: int,
    dilation: int,
    sigma: float,
    temperature: float,
) -> torch.Tensor:
    """Mean of the neighbours' values, weighted by likeness and nearness.

    Neighbours lie `dilation` cells apart, so the map falls into dilation^2 interleaved lattices that never mix. In
    each of them the window is dense, and a band of rows is two matrix products under a fixed mask: no loop over
    neighbours, and no tensor that holds every neighbour's values.

    Args:
        values: (B, D, h, w).
        appearance: (B, A, h, w); gradients flow through it unless it is detached.
        radius: Neighbours a side.
        dilation: Cells between neighbours.
        sigma: Spatial scale in cells.
        temperature: Of the cosine similarity.

    Returns:
        (B, D, h, w) in the dtype of `values`; 0 where a pixel has no neighbour inside the map.
    """
    values, alike = values.permute(0, 2, 3, 1), F.normalize(appearance.float(), dim=1).permute(0, 2, 3, 1)
    means = torch.zeros_like(values)
    for y in range(min(dilation, values.shape[1])):
        for x in range(min(dilation, values.shape[2])):
            lattice = (slice(None), slice(y, None, dilation), slice(x, None, dilation))
            prior = (radius, sigma / dilation)
            means[lattice] = _lattice_mean(values[lattice], alike[lattice].to(values.dtype), *prior, temperature)
    return means.permute(0, 3, 1, 2)


def _lattice_mean(
    values: torch.Tensor, alike: torch.Tensor, radius: int, sigma: float, temperature: float
) -> torch.Tensor:
    """`neighbour_mean` for dilation 1, on (B, rows, cols, D) and unit vectors (B, rows, cols, A)."""
    rows, cols = values.shape[1:3]
    bands = []
    for top in range(0, rows, BAND):
        bottom = min(top + BAND, rows)
        first, last = max(top - radius, 0), min(bottom + radius, rows)
        bias, alone = _window(bottom - top, last - first, top - first, cols, radius, sigma, values.device)
        queries, keys = alike[:, top:bottom].flatten(1, 2), alike[:, first:last].flatten(1, 2)
        affinity = torch.baddbmm(bias.to(values.dtype), queries, keys.transpose(1, 2), alpha=1 / temperature)
        affinity = affinity.softmax(dim=2).masked_fill(alone, 0.0)  # (B, band * cols, halo * cols)
        mean = torch.bmm(affinity, values[:, first:last].flatten(1, 2))
        bands.append(mean.unflatten(1, (bottom - top, cols)))
    return torch.cat(bands, dim=1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor that is first made for inference must serve training as well
def _window(
    band: int, halo: int, offset: int, cols: int, radius: int, sigma: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The spatial prior of a band of queries over the rows around it.

    Args:
        band: Rows of queries.
        halo: Rows of keys.
        offset: First query row, counted in key rows.
        cols: Columns of both.

    Returns:
        float32 (1, band * cols, halo * cols), `EXCLUDED` outside the window and for the pixel itself, and bool
        (band * cols, 1): queries without any neighbour.
    """
    dy = torch.arange(offset, offset + band)[:, None] - torch.arange(halo)[None, :]
    dx = torch.arange(cols)[:, None] - torch.arange(cols)[None, :]
    squared = (dy[:, None, :, None] ** 2 + dx[None, :, None, :] ** 2).float()  # (band, cols, halo, cols)
    near = (dy.abs() <= radius)[:, None, :, None] & (dx.abs() <= radius)[None, :, None, :]
    bias = torch.where(near & (squared > 0), -squared / (2 * sigma**2), torch.full((), EXCLUDED))
    bias = bias.flatten(2).flatten(0, 1)
    return bias[None].to(device), (bias == EXCLUDED).all(1, keepdim=True).to(device)
