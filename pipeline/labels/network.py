"""A network for labelled classes: a map, and a linear head on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LabelledNet(nn.Module):
    """Class scores of normalised images.

    The head standardises the channels of the map, because an embedding of unit norm would give it hardly any slope.

    Args:
        body: From normalised images (B, 3, H, W) to a map (B, D, h, w).
        channels: D.
        classes: Number of classes C.
        seed: Seed of the head's weights.
    """

    def __init__(self, body: nn.Module, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.body = body
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, classes, 1))

    def forward(self, images: torch.Tensor, *, head_only: bool = False) -> torch.Tensor:
        """Logits (B, C, H, W), the head's interpolated bilinearly; with `head_only` no gradient reaches the body."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not head_only):
            features = self.body(images)
        logits = self.head(features)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def labelled_loss(logits: torch.Tensor, masks: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Mean cross entropy of the labelled pixels; 0 where there are none.

    Args:
        logits: (B, C, H, W).
        masks: int64 (B, H, W), class ids or `ignore_index`.
        ignore_index: Id of the pixels that have no label.
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=ignore_index, reduction="sum")
    return total / (masks != ignore_index).sum().clamp(min=1)
