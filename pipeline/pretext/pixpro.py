"""PixPro: a cell, smoothed over the cells like it, agrees with the cells of the other view that lie at its place.

Xie et al. 2021, pixel-to-propagation consistency. It is asked of the decoder's map, averaged down to at most 12 cells
a side, so that the decoder is trained as well; the published res5 map of a small view would have three cells a side.

Published: ResNet-50, projection 2048 - 256, sharpness 2, matches nearer than 0.7 of a cell's diagonal, momentum 0.99
rising to 1, batch 1024, LARS 1.0 x batch / 256, weight decay 1e-5, 100 to 400 epochs (preset `pretext-pixpro`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.data.views import Geometric
from pipeline.params import PretrainParams
from pipeline.pretext.averaging import Average, rising_momentum
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, swap_views
from pipeline.pretext.heads import pixel_mlp
from pipeline.pretext.method import Losses, PretextMethod

MAX_CELLS = 12  # a side; pairs grow with its fourth power
REACH = 0.7  # of the diagonal of a cell
SHARPNESS = 2


class PixPro(PretextMethod):
    """The encoder with projection and propagation, and a slow copy of encoder and projection."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        channels, width = encoder.architecture["channels"], params.projection.width
        self.project = pixel_mlp(channels, params.projection.hidden, width, norm=True)
        self.transform = nn.Conv2d(width, width, 1)
        self.slow_encoder, self.slow_project = Average(encoder), Average(self.project)

    def forward(self, batch: ViewBatch) -> Losses:
        """Scalars loss, in -2..2, embedding_std, and matched: the share of cells that have a match."""
        images = torch.cat(batch.views)
        with torch.no_grad():
            if self.training:
                momentum = rising_momentum(self.params.momentum, batch.progress)
                self.slow_encoder.follow(self.encoder, momentum)
                self.slow_project.follow(self.project, momentum)
            slow = batch.dealing.gather(coarsen(self.slow_encoder.module(images)), 2)
            target = self.slow_project.module(slow).float()
        projected = self.project(batch.dealing.gather(coarsen(self.encoder(images)), 2)).float()  # (2B, D, h, w)
        with torch.autocast(images.device.type, enabled=False):
            smooth = propagate(projected, self.transform(projected))
            near = near_cells(batch.crops, (projected.shape[2], projected.shape[3])).to(images.device)
            near = batch.dealing.gather(near)
            forth, back = smooth.chunk(2)
            to_second, to_first = swap_views(target).chunk(2)
            loss = match_loss(forth, to_second, near) + match_loss(back, to_first, near.transpose(1, 2))
        cells = projected.transpose(0, 1).flatten(1).T
        return {"loss": loss, "embedding_std": embedding_std(cells), "matched": near.any(2).float().mean()}


def coarsen(maps: torch.Tensor) -> torch.Tensor:
    """Average maps (B, D, h, w) down to at most 12 cells a side."""
    h, w = maps.shape[-2:]
    return F.adaptive_avg_pool2d(maps, (min(h, MAX_CELLS), min(w, MAX_CELLS)))


def propagate(maps: torch.Tensor, transformed: torch.Tensor) -> torch.Tensor:
    """Each cell as the sum of the transformed cells that are like it (Xie et al. 2021, eq. 4 and 5).

    Args:
        maps: float32 (B, D, h, w).
        transformed: float32 (B, D, h, w).

    Returns:
        float32 (B, D, h, w).
    """
    unit = F.normalize(maps, dim=1).flatten(2)
    alike = torch.einsum("bdi,bdj->bij", unit, unit).clamp(min=0).pow(SHARPNESS)
    return torch.einsum("bij,bdj->bdi", alike, transformed.flatten(2)).view_as(maps)


def near_cells(crops: tuple[Geometric, Geometric], size: tuple[int, int]) -> torch.Tensor:
    """Which cells of two views lie at about the same place of the frame (Xie et al. 2021, eq. 2).

    Distances are in fractions of the frame's sides and count relative to the larger cell's diagonal.

    Args:
        crops: How the views were cut.
        size: Rows h and columns w of both maps.

    Returns:
        bool (B, h * w, h * w), cells of view 1 by those of view 2, row by row.
    """
    v, u = torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in size), indexing="ij")
    centres, diagonals = [], []
    for crop in crops:
        low, sides = crop.boxes[:, None, :2], (crop.boxes[:, 2:] - crop.boxes[:, :2])[:, None]  # (B, 1, 2)
        inside = torch.stack(crop.place(u.flatten()[None], v.flatten()[None]), dim=-1)  # (B, h * w, 2)
        centres.append(low + inside * sides)
        diagonals.append((sides[:, 0] / torch.tensor(size[::-1])).norm(dim=1))
    diagonal = torch.maximum(*diagonals)[:, None, None]
    return torch.cdist(centres[0], centres[1]) < REACH * diagonal


def match_loss(smooth: torch.Tensor, target: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Minus the mean cosine of matching cells, over the images that have any.

    Args:
        smooth: float32 (B, D, h, w).
        target: float32 (B, D, h, w), of the other view; carries no gradient.
        near: bool (B, h * w, h * w).

    Returns:
        Scalar.
    """
    one, two = F.normalize(smooth, dim=1).flatten(2), F.normalize(target.detach(), dim=1).flatten(2)
    cosines = (torch.einsum("bdi,bdj->bij", one, two) * near).sum((1, 2))
    pairs = near.sum((1, 2))
    return -(cosines / pairs.clamp(min=1)).sum() / (pairs > 0).sum().clamp(min=1)
