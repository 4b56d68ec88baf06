"""What all backbones have in common: maps of known widths and strides."""

from __future__ import annotations

import torch
from torch import nn


class Backbone(nn.Module):
    """An encoder of one or more stages; the decoder takes its maps, whatever their number.

    Attributes:
        stem: From normalised images to what the first stage takes.
        stages: Run one after the other; `train.trained: last` trains the last one and what follows it.
        names: What `extract.source` calls the maps.
        widths: Channels of the maps, fine to coarse.
        strides: Their strides, in pixels.
    """

    stem: nn.Module
    stages: nn.ModuleList
    names: tuple[str, ...] = ("res2", "res3", "res4", "res5")
    widths: tuple[int, ...]
    strides: tuple[int, ...] = (4, 8, 16, 32)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encode.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            Maps (B, widths[i], H / strides[i], W / strides[i]).
        """
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
