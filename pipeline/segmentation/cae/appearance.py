"""Where the appearance comes from that tells which neighbours are alike, if not from the features themselves."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.params import AppearanceSource

MIN_SPREAD = 0.1  # about 6 gray levels of 255: below it, an image's noise would be blown up to colour
MIN_BANDS_SPREAD = 0.0225  # the same for other channels than RGB, which are not divided by their deviation here


class ColourAppearance(nn.Module):
    """The colours of the image, alone or beside the features."""

    def __init__(self, *, with_features: bool) -> None:
        super().__init__()
        self.with_features = with_features

    def forward(self, images: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (B, 3, H, W) and features (B, D, h, w) to one or two maps (B, A, h, w)."""
        colours = colour_map(images, (features.shape[2], features.shape[3]))
        return (features, colours) if self.with_features else (colours,)


class FrozenAppearance(nn.Module):
    """The decoder's map of a frozen encoder, such as the self-supervised start of the training.

    It needs a second forward pass, so it doubles the cost of one; its weights are part of the segmenter's, since
    inference needs them too. It always runs in evaluation mode.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenAppearance:
        """Stay in evaluation mode, whatever the segmenter around it does."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (B, 3, H, W) to one map (B, D, h, w), without gradient."""
        return (self.encoder(images),)


def build_appearance(source: AppearanceSource, encoder: Encoder) -> nn.Module | None:
    """Build what gives the appearance.

    Args:
        source: Key `train.cae.appearance`.
        encoder: Copied where the source is `backbone`.

    Returns:
        A module from images and features to appearance maps; None where the features alone serve.
    """
    if source == "features":
        return None
    if source == "backbone":
        return FrozenAppearance(copy.deepcopy(encoder))
    return ColourAppearance(with_features=source == "features_rgb")


def colour_map(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Average colours, in a form whose cosine tells colours apart.

    The colours of an image are centred on their mean and divided by their spread, both over the whole image, so that
    changes of brightness and contrast (the views have them) cancel. The cosine of such colours would still take dark
    for less dark, and mean nothing near the centre; a constant 1 as the last channel gives every colour a direction
    of its own. Near the mean colour, cosine / 0.1 is a Gaussian whose width is 0.32 of the spread.

    Args:
        images: float (B, C, H, W), as `normalise` gives them.
        size: h and w.

    Returns:
        float32 (B, C + 1, h, w), not of unit norm.
    """
    colours = F.adaptive_avg_pool2d(images.float(), size)
    centred = colours - colours.mean((2, 3), keepdim=True)
    least = MIN_SPREAD if images.shape[1] == 3 else MIN_BANDS_SPREAD
    spread = centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=least)
    return F.pad(centred / spread, (0, 0, 0, 0, 0, 1), value=1.0)
