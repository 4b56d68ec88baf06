"""ConvNeXt encoders of torchvision with random weights, cut into their four stages (Liu et al. 2022)."""

from __future__ import annotations

from torch import nn
from torchvision.models import convnext

from pipeline.backbones.backbone import Backbone


class ConvNeXt(Backbone):
    """A ConvNeXt that returns the maps of its four stages; res2 to res5 are those of the strides of a ResNet."""

    def __init__(self, net: convnext.ConvNeXt) -> None:
        super().__init__()
        self.stem, first, *rest = net.features
        # each further stage starts with its downsampling
        self.stages = nn.ModuleList([first, *map(nn.Sequential, rest[::2], rest[1::2])])
        self.widths = tuple(stage[-1][-1].block[0].out_channels for stage in [[first], *self.stages[1:]])


def build_convnext_tiny() -> ConvNeXt:
    """ConvNeXt-T with random weights, without stochastic depth: that would draw from torch's global generator."""
    return ConvNeXt(convnext.convnext_tiny(weights=None, stochastic_depth_prob=0.0))
