"""The segmenter as one network from the pixels of an image to the labels of its pixels, ready to be exported."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.data.views import normalise
from pipeline.export.neighbours import GraphEmbedding
from pipeline.params import STRIDE
from pipeline.segmentation.cae import ContextAwareEmbedding
from pipeline.segmentation.cae.appearance import MIN_SPREAD, ColourAppearance
from pipeline.segmentation.model import Segmenter

OUTPUTS = ("labels", "logits")


class GraphColours(nn.Module):
    """`ColourAppearance` with a pooling whose window is fixed, not its result's size."""

    def __init__(self, stride: int, *, with_features: bool) -> None:
        super().__init__()
        self.stride, self.with_features = stride, with_features

    def forward(self, images: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `ColourAppearance.forward`."""
        colours = F.avg_pool2d(images.float(), self.stride)
        centred = colours - colours.mean((2, 3), keepdim=True)
        spread = centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=MIN_SPREAD)
        colours = torch.cat([centred / spread, torch.ones_like(colours[:, :1])], dim=1)
        return (features, colours) if self.with_features else (colours,)


class PixelSegmenter(nn.Module):
    """From uint8 images (B, C, H, W), H and W multiples of 32, to labels int64 (B, H, W) or logits (B, K, H, W)."""

    def __init__(self, segmenter: Segmenter, output: str) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.output = output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        scores = self.segmenter(normalise(images))
        scores = F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)
        return scores.argmax(1) if self.output == "labels" else scores


def build_graph(segmenter: Segmenter, output: str, channels: int = 3) -> PixelSegmenter:
    """Make an equal network that a graph for images of any size can hold.

    Args:
        segmenter: On the CPU; it is left as it is.
        output: What the graph gives: the best cluster, or the scores of all, enlarged to the images' size.
        channels: C of the images.
    """
    segmenter = copy.deepcopy(segmenter).eval().requires_grad_(False)
    if isinstance(segmenter.embedding, ContextAwareEmbedding):
        embedding = GraphEmbedding(segmenter.prototypes.shape[1], segmenter.embedding.params)
        embedding.load_state_dict(segmenter.embedding.state_dict())
        segmenter.embedding = embedding.eval().requires_grad_(False)
    if isinstance(segmenter.appearance, ColourAppearance):
        with torch.no_grad():
            stride = STRIDE // segmenter.encoder(torch.zeros(1, channels, STRIDE, STRIDE)).shape[3]
        segmenter.appearance = GraphColours(stride, with_features=segmenter.appearance.with_features)
    return PixelSegmenter(segmenter, output).eval()
