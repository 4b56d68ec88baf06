"""Two-view contrastive learning with a global and a dense term, for images of scenes.

The global term is SimCLR's (Chen et al. 2020) on the pooled last map. The dense term asks the same of single places,
as DenseCL (Wang et al. 2021) does, with two differences: places correspond by the known geometry of the two crops
instead of by similarity, and they are read from the decoder's map, so that the decoder is trained as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.data.views import Geometric
from pipeline.pretext.contrast import embedding_std, nt_xent

PROJECTION = 128  # width of both projections, as in SimCLR


class GlobalDense(nn.Module):
    """The encoder with the projections that only the pretext needs."""

    def __init__(self, encoder: Encoder, *, temperature: float, dense_weight: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = temperature
        self.dense_weight = dense_weight
        width, channels = encoder.backbone.widths[-1], encoder.architecture["channels"]
        self.project_image = _projector(width, width)
        self.project_place = _projector(channels, 2 * channels)

    def forward(
        self,
        views: tuple[torch.Tensor, torch.Tensor],
        crops: tuple[Geometric, Geometric],
        places: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The losses of one batch.

        Args:
            views: Twice (B, 3, h, w), normalised.
            crops: How each view was cut from its frame.
            places: float32 (B, M, 2) in 0..1; where to compare, within the part that both views show.

        Returns:
            Scalars loss, global_loss, dense_loss, embedding_std.
        """
        B = views[0].shape[0]
        maps = self.encoder.backbone(torch.cat(views))
        pooled = maps[-1].float().mean((2, 3))  # (2B, widths[-1])
        first, second = self.project_image(pooled).chunk(2)
        decoded = self.encoder.decoder(maps).float().chunk(2)
        shared, visible = shared_places(*crops, places)  # (B, M, 2), (B,)
        read = [read_places(map_, crop, shared) for map_, crop in zip(decoded, crops, strict=True)]  # (B, M, D)
        rows = torch.cat([map_[visible.to(map_.device)].flatten(0, 1) for map_ in read])
        places_one, places_two = (self.project_place(rows) if len(rows) else rows).chunk(2)
        global_loss = nt_xent(first, second, self.temperature)
        dense_loss = nt_xent(places_one, places_two, self.temperature)
        loss = (1 - self.dense_weight) * global_loss + self.dense_weight * dense_loss
        spread = embedding_std(first) if B > 1 else torch.ones(())
        return {"loss": loss, "global_loss": global_loss, "dense_loss": dense_loss, "embedding_std": spread}


def shared_places(first: Geometric, second: Geometric, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move unit coordinates into the part of the frame that both crops show.

    Args:
        first: Crops of view 1.
        second: Crops of view 2.
        places: float32 (B, M, 2), x and y in 0..1.

    Returns:
        float32 (B, M, 2) in fractions of the frame, and bool (B,): whether the crops overlap at all.
    """
    low = torch.maximum(first.boxes[:, :2], second.boxes[:, :2])
    high = torch.minimum(first.boxes[:, 2:], second.boxes[:, 2:])
    overlap = (high > low).all(1)
    return low[:, None] + places * (high - low)[:, None], overlap


def read_places(maps: torch.Tensor, crop: Geometric, places: torch.Tensor) -> torch.Tensor:
    """Sample a view's map at places given in fractions of the frame.

    Args:
        maps: float32 (B, D, h, w).
        crop: How the view was cut, mirroring included.
        places: float32 (B, M, 2), x and y.

    Returns:
        float32 (B, M, D), bilinear.
    """
    low, high = crop.boxes[:, None, :2], crop.boxes[:, None, 2:]
    inside = (places - low) / (high - low)
    x = torch.where(crop.flip[:, None], 1 - inside[..., 0], inside[..., 0])
    grid = torch.stack([x, inside[..., 1]], dim=-1)[:, None] * 2 - 1  # (B, 1, M, 2)
    read = F.grid_sample(maps, grid.to(maps.device), padding_mode="border", align_corners=False)  # (B, D, 1, M)
    return read[:, :, 0].transpose(1, 2)


def _projector(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, PROJECTION),
    )
