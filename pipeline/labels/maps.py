"""The map that labels are learnt on: the backbone's decoder map, or the segmenter's embedding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pipeline.backbones.encoder import build_encoder, load_encoder
from pipeline.data.views import normalise
from pipeline.params import MapSource, Precision
from pipeline.runtime.artifacts import Artifact
from pipeline.runtime.device import autocast, copy_to
from pipeline.segmentation.model import Segmenter, build_segmenter, load_segmenter


class Embedding(nn.Module):
    """A segmenter without its prototypes."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) to unit embeddings, float32 (B, D, H/4, W/4)."""
        return self.segmenter.embed(images)


def load_body(source: MapSource, artifact: Artifact) -> nn.Module:
    """Load a copy of a trained network, from normalised images (B, 3, H, W) to its map (B, D, H/4, W/4).

    Args:
        source: What the artefact is.
        artifact: The folder of a backbone or a segmenter; it is only read.

    Raises:
        InputError: The files are damaged, or the weights do not fit the architecture.
    """
    return load_encoder(artifact) if source == "backbone" else Embedding(load_segmenter(artifact))


def build_body(source: MapSource, artifact: Artifact, seed: int) -> nn.Module:
    """Build the network of `load_body` with random weights.

    Args:
        source: What the artefact is.
        artifact: Gives the architecture.
        seed: Seed of the weights.
    """
    if source == "backbone":
        return build_encoder(**artifact.json("backbone.json")["architecture"], seed=seed)
    return Embedding(build_segmenter(**artifact.json("segmenter.json")["architecture"], seed=seed))


def map_channels(source: MapSource, artifact: Artifact) -> int:
    """Channels D of the map."""
    if source == "backbone":
        return int(artifact.json("backbone.json")["architecture"]["channels"])
    return int(artifact.json("segmenter.json")["architecture"]["encoder"]["channels"])


def freeze_body(
    body: nn.Module, *, device: torch.device, precision: Precision
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the map a function that no gradient can pass.

    Args:
        body: The network; it is moved to `device` and set to evaluation mode.
        device: Where to compute.
        precision: Of the forward pass; the map comes back as float32.

    Returns:
        uint8 (B, 3, H, W) to float32 (B, D, H/4, W/4).
    """
    body = body.to(device).to(memory_format=torch.channels_last).requires_grad_(False).eval()

    @torch.no_grad()
    def encode(frames: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            features: torch.Tensor = body(normalise(copy_to(device, frames)))
        return features.float()

    return encode
