"""A feature pyramid decoder that brings all maps of a backbone to stride 4 (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import LayerNorm2d

STRIDES = (4, 8, 16, 32)


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


class SimplePyramid(nn.Module):
    """Maps of strides 4 to 32 made of the one map of a plain backbone, as in ViTDet (Li et al. 2022, section 3).

    Finer maps come from transposed convolutions, each of which doubles the side and halves the channels; coarser ones
    from max pooling.

    Attributes:
        widths: Channels of the four maps.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        widths = []
        for wanted in STRIDES:
            layers: list[nn.Module] = [nn.MaxPool2d(wanted // stride)] if wanted > stride else []
            channels, at = width, stride
            while at > wanted:
                if layers:
                    layers += [LayerNorm2d(channels, eps=1e-6), nn.GELU()]
                layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
                channels, at = channels // 2, at // 2
            self.scales.append(nn.Sequential(*layers))
            widths.append(channels)
        self.widths = tuple(widths)

    def forward(self, map_: torch.Tensor) -> list[torch.Tensor]:
        """(B, D, h, w) to four maps, fine to coarse."""
        return [scale(map_) for scale in self.scales]


class PlainDecoder(nn.Module):
    """The decoder of a backbone with one map: the simple pyramid, and the pyramid decoder on it."""

    def __init__(self, width: int, stride: int, channels: int) -> None:
        super().__init__()
        self.pyramid = SimplePyramid(width, stride)
        self.merge = PyramidDecoder(self.pyramid.widths, channels)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decode a list of one map to (B, D, H/4, W/4)."""
        decoded: torch.Tensor = self.merge(self.pyramid(maps[0]))
        return decoded


def build_decoder(widths: Sequence[int], strides: Sequence[int], channels: int) -> nn.Module:
    """Build the decoder that fits a backbone.

    Args:
        widths: Channels of the backbone's maps, fine to coarse.
        strides: Their strides in pixels; those of several maps start at 4.
        channels: D, channels of the decoder's map.

    Returns:
        A module from the maps to (B, D, H/4, W/4).
    """
    if len(widths) > 1:
        return PyramidDecoder(widths, channels)
    return PlainDecoder(widths[0], strides[0], channels)
