"""ResNet encoders of torchvision with random weights, cut into their four stages (He et al. 2016)."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet


class ResNet(nn.Module):
    """A ResNet that returns the maps of its four stages.

    Attributes:
        widths: Channels of res2, res3, res4, res5.
        strides: Their strides, in pixels.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, net: resnet.ResNet) -> None:
        super().__init__()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        expansion = net.layer1[0].expansion
        self.widths = tuple(expansion * width for width in (64, 128, 256, 512))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encode.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            Four maps (B, widths[i], H / strides[i], W / strides[i]).
        """
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def build_resnet18() -> ResNet:
    """ResNet-18 with random weights."""
    return ResNet(resnet.resnet18(weights=None))


def build_resnet50() -> ResNet:
    """ResNet-50 with random weights."""
    return ResNet(resnet.resnet50(weights=None))
