"""CAE's means over neighbours in operations whose number does not depend on the size of the map.

What training uses loops over bands of rows, which a graph for any size cannot hold; the results are the same.
"""

from __future__ import annotations

import torch

from pipeline.segmentation.cae.embedding import ContextAwareEmbedding
from pipeline.segmentation.cae.window import EXCLUDED


class GraphEmbedding(ContextAwareEmbedding):
    """The context-aware embedding with the means of this module; it takes the same weights."""

    def _gather(self, values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
        params = self.params
        sigma: float | torch.Tensor = params.sigma
        temperature: float | torch.Tensor = params.temperature
        if not params.fixed_temperature:
            sigma, temperature = self.log_sigma.exp(), self.log_temperature.exp()
        if params.neighbourhood == "nonlocal":
            return graph_nonlocal_mean(values, alike, params.top, sigma, temperature, params.exclude_self)
        contexts = [
            graph_window_mean(
                values, alike, params.radius, params.dilation * scale, sigma * scale, temperature, params.exclude_self
            )
            for scale in params.scales
        ]
        return contexts[0] if len(contexts) == 1 else torch.stack(contexts).mean(0)


def graph_window_mean(
    values: torch.Tensor,
    alike: torch.Tensor,
    radius: int,
    dilation: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool,
) -> torch.Tensor:
    """`window_mean` by gathering one row of each window at a time; arguments and result are the same."""
    h, w = values.shape[2:]
    side = 2 * radius + 1
    rows, cols = torch.arange(h)[:, None], torch.arange(w)[None, :]
    units, cells = alike.flatten(2).transpose(1, 2), values.flatten(2).transpose(1, 2)  # (B, h * w, A) and D
    dx = dilation * torch.arange(-radius, radius + 1)[:, None, None]
    places, within, logits = [], [], []
    for step in range(-radius, radius + 1):
        dy = dilation * step
        y, x = rows + dy, cols + dx
        inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)  # (side, h, w)
        if exclude_self and step == 0:
            inside = inside & (dx != 0)
        # the last index as a tensor: as a number it would be written into the graph
        place = y.clamp(min=0).minimum(rows[-1:]) * w + x.clamp(min=0).minimum(cols[:, -1:])
        places.append(place.flatten())
        within.append(inside.flatten(1))
        near = units.index_select(1, places[-1]).unflatten(1, (side, -1))  # (B, side, h * w, A)
        likeness = (near * units[:, None]).sum(3) / temperature - ((dy**2 + dx**2) / (2 * sigma**2)).flatten(1)
        logits.append(torch.where(within[-1], likeness, EXCLUDED))
    affinity = torch.cat(logits, 1).softmax(1) * torch.cat(within)  # (B, side * side, h * w)
    means = torch.zeros_like(cells)
    for place, weights in zip(places, affinity.split(side, dim=1), strict=True):
        means = means + (cells.index_select(1, place).unflatten(1, (side, -1)) * weights[..., None]).sum(1)
    return means.transpose(1, 2).unflatten(2, (h, w))


def graph_nonlocal_mean(
    values: torch.Tensor,
    alike: torch.Tensor,
    top: int,
    sigma: float | torch.Tensor,
    temperature: float | torch.Tensor,
    exclude_self: bool,
) -> torch.Tensor:
    """`nonlocal_mean` for maps of at least `top` cells, with memory for all pairs of cells at once."""
    h, w = values.shape[2:]
    units, cells = alike.flatten(2).transpose(1, 2), values.flatten(2).transpose(1, 2)
    rows = torch.arange(h)[:, None].expand(h, w).flatten()
    cols = torch.arange(w)[None, :].expand(h, w).flatten()
    squared = (rows[:, None] - rows) ** 2 + (cols[:, None] - cols) ** 2  # (h * w, h * w)
    logits = units @ units.transpose(1, 2) / temperature - squared / (2 * sigma**2)
    if exclude_self:
        logits = torch.where(squared == 0, EXCLUDED, logits)
    best = logits.topk(top, dim=2)
    affinity = torch.zeros_like(logits).scatter(2, best.indices, best.values.softmax(2))
    if exclude_self:
        affinity = torch.where(squared == 0, 0.0, affinity)
    return (affinity @ cells).transpose(1, 2).unflatten(2, (h, w))
