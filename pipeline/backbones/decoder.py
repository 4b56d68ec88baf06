"""A feature pyramid decoder that brings all stages of a backbone to its finest stride (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class PyramidDecoder(nn.Module):
    """Lateral 1x1 convolutions, summed from coarse to fine.

    As in PiCIE (Cho et al. 2021), there is no 3x3 convolution on top: an output cell stays a sum of what the stages
    say about its place.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in widths])

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decode.

        Args:
            maps: Maps of the backbone, fine to coarse.

        Returns:
            (B, D, h, w) at the stride of the first map.
        """
        merged = self.laterals[-1](maps[-1])
        for lateral, fine in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            merged = lateral(fine) + F.interpolate(merged, fine.shape[-2:], mode="bilinear", align_corners=False)
        return merged
