"""SimMIM: paint in what was masked (Xie et al. 2022).

Random patches of a plain view are replaced by a learned colour, so that any backbone can take them, and one linear
layer on the decoder's map tells their pixels. The decoder is trained with the backbone.

Published: Swin-B or ViT-B at 192 to 224 pixels, patches of 32, 60 % masked, L1 on masked pixels only, AdamW 8e-4 at
batch 2048, weight decay 0.05, 100 to 800 epochs (preset `pretext-simmim`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.data.views import normalise
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import Losses, PretextMethod, pool_map

CELL = 4  # stride of the decoder's map


class SimMim(PretextMethod):
    """The encoder with the mask's colour and the layer that paints."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.mask_colour = nn.Parameter(torch.zeros(3, 1, 1))
        self.paint = nn.Conv2d(encoder.architecture["channels"], 3 * CELL * CELL, 1)

    def forward(self, batch: ViewBatch) -> Losses:
        """Scalars loss and embedding_std."""
        images = normalise(torch.cat(batch.plain))  # (2B, 3, s, s)
        patch, ratio = self.params.masking.patch, self.params.masking.ratio
        side = images.shape[-1] // patch
        numbers = torch.cat([batch.draw(f"mask of {view} view", side * side) for view in ("first", "second")])
        masked = draw_masks(numbers, ratio).view(-1, 1, side, side).to(images.device)
        masked = masked.repeat_interleave(patch, 2).repeat_interleave(patch, 3)  # (2B, 1, s, s)
        shown = torch.where(masked, self.mask_colour, images).contiguous(memory_format=torch.channels_last)
        maps = self.encoder.backbone(shown)
        painted = F.pixel_shuffle(self.paint(self.encoder.decoder(maps)), CELL).float()
        loss = batch.dealing.mean(masked_error(painted, images, masked))  # as many are masked in each image
        return {"loss": loss, "embedding_std": embedding_std(batch.dealing.gather(pool_map(maps), 2))}


def draw_masks(numbers: torch.Tensor, ratio: float) -> torch.Tensor:
    """Which patches are masked: those of the smallest numbers, the same count in every image.

    Args:
        numbers: float32 (B, N), at random.
        ratio: Share of the patches; at least one is masked and one is shown.

    Returns:
        bool (B, N).
    """
    N = numbers.shape[1]
    count = min(max(1, round(ratio * N)), N - 1)
    chosen = numbers.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros(numbers.shape, dtype=torch.bool).scatter_(1, chosen, True)


def masked_error(painted: torch.Tensor, images: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the masked pixels (Xie et al. 2022, eq. 1).

    Args:
        painted: float32 (B, 3, s, s).
        images: float32 (B, 3, s, s).
        masked: bool (B, 1, s, s).

    Returns:
        Scalar.
    """
    return ((painted - images).abs() * masked).sum() / (painted.shape[1] * masked.sum()).clamp(min=1)
