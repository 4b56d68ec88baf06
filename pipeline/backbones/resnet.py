"""ResNet encoders of torchvision with random weights, cut into their four stages (He et al. 2016)."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet

from pipeline.backbones.backbone import Backbone


class ResNet(Backbone):
    """A ResNet that returns the maps of its four stages, res2 to res5."""

    def __init__(self, net: resnet.ResNet) -> None:
        super().__init__()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        expansion = net.layer1[0].expansion
        self.widths = tuple(expansion * width for width in (64, 128, 256, 512))


def build_resnet18() -> ResNet:
    """ResNet-18 with random weights."""
    return ResNet(resnet.resnet18(weights=None))


def build_resnet50() -> ResNet:
    """ResNet-50 with random weights."""
    return ResNet(resnet.resnet50(weights=None))
