"""The segmenter: encoder, context-aware embedding and prototypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import NO_NETWORK, Encoder, build_encoder, check_sizes, load_weights, save_weights
from pipeline.errors import InputError
from pipeline.params import CaeParams, PyramidLossParams
from pipeline.runtime.artifacts import Artifact, write_json
from pipeline.segmentation.cae import ContextAwareEmbedding, build_appearance
from pipeline.segmentation.losses import best_of_groups, prototype_logits


class UnitNorm(nn.Module):
    """The embedding without context: features scaled to unit norm."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) to float32 (B, D, h, w)."""
        return F.normalize(features.float(), dim=1)


class Segmenter(nn.Module):
    """Maps normalised images to cluster scores.

    Attributes:
        appearance: Gives the embedding what makes neighbours alike; None where the features alone serve.
        prototypes: float32 (K', D), the final ones; zeros until training ends.
        groups: int64 (K',), the cluster in 0..K-1 of each prototype; K' is K unless fine clusters were merged.
        architecture: What `build_segmenter` needs to make the same network again.
    """

    prototypes: torch.Tensor
    groups: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        embedding: nn.Module,
        architecture: dict[str, Any],
        *,
        appearance: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding = embedding
        self.appearance = appearance
        self.k = int(architecture["k"])
        self.merged = architecture["fine_clusters"] > 0
        count = architecture["fine_clusters"] or self.k
        self.register_buffer("prototypes", torch.zeros(count, encoder.architecture["channels"]))
        self.register_buffer("groups", torch.arange(count) % self.k)
        self.architecture = architecture

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Unit embeddings of normalised images: (B, 3, H, W) to float32 (B, D, H/4, W/4)."""
        features = self.encoder(images)
        maps = () if self.appearance is None else (self.appearance(images, features),)
        embedding: torch.Tensor = self.embedding(features, *maps)
        return embedding

    def scores(self, embedding: torch.Tensor) -> torch.Tensor:
        """Cluster scores of embeddings: float32 (B, D, h, w) to float32 (B, K, h, w)."""
        scores = prototype_logits(embedding, self.prototypes)
        return best_of_groups(scores, self.groups, self.k) if self.merged else scores

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster scores of normalised images: (B, 3, H, W) to float32 (B, K, H/4, W/4)."""
        return self.scores(self.embed(images))


class PyramidHead(nn.Module):
    """Tells a cell's pyramid pseudo label from its mean embedding.

    Args:
        channels: D.
        k: Pseudo labels K_l of the level.
        params: `head` is cosine (unit rows, a temperature) or mlp (one hidden layer).
    """

    def __init__(self, channels: int, k: int, params: PyramidLossParams) -> None:
        super().__init__()
        self.temperature = params.temperature
        self.cosine = params.head == "cosine"
        self.hidden = nn.Identity() if self.cosine else nn.Sequential(nn.Linear(channels, channels), nn.ReLU())
        self.last = nn.Linear(channels, k, bias=not self.cosine)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """(N, D) to logits (N, K_l)."""
        if self.cosine:
            return F.linear(F.normalize(cells, dim=1), F.normalize(self.last.weight, dim=1)) / self.temperature
        logits: torch.Tensor = self.last(self.hidden(cells))
        return logits


def build_segmenter(
    encoder: dict[str, Any],
    k: int,
    cae: dict[str, Any],
    *,
    fine_clusters: int = 0,
    start: Encoder | None = None,
    seed: int = 0,
) -> Segmenter:
    """Build a segmenter.

    Args:
        encoder: Architecture of the encoder, as its side-car has it.
        k: Pixel clusters K.
        cae: Group `train.cae` as plain values.
        fine_clusters: Fine prototypes that are merged into the K clusters; 0 for one prototype per cluster.
        start: An encoder with weights to begin with; else random weights. With appearance `backbone`, a frozen copy is
            made of it as it is now.
        seed: Seed of random weights.
    """
    body = start or build_encoder(**encoder, seed=seed)
    settings = CaeParams(**cae)
    embedding: nn.Module = UnitNorm()
    appearance = None
    if settings.enabled:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            embedding = ContextAwareEmbedding(encoder["channels"], settings)
        appearance = build_appearance(settings.appearance, body)
    architecture = {"encoder": encoder, "k": k, "cae": settings.model_dump(), "fine_clusters": fine_clusters}
    return Segmenter(body, embedding, architecture, appearance=appearance)


def save_segmenter(segmenter: Segmenter, folder: Path, notes: dict[str, Any]) -> None:
    """Write `weights.safetensors`, prototypes included, and the side-car `segmenter.json`."""
    save_weights(segmenter, folder / "weights.safetensors")
    write_json(folder / "segmenter.json", {"architecture": segmenter.architecture, "labels_used": False, **notes})


def load_segmenter(artifact: Artifact) -> Segmenter:
    """Load what `save_segmenter` wrote, in evaluation mode.

    Raises:
        InputError: The files are damaged, or the weights do not fit the architecture.
    """
    try:
        architecture = artifact.json("segmenter.json")["architecture"]
        check_sizes(architecture)
        check_sizes(architecture["encoder"])
        segmenter = build_segmenter(**architecture)
    except NO_NETWORK as error:
        raise InputError(f"{artifact.path}: segmenter.json describes no network ({error!r}); run `dvc repro`") from None
    load_weights(segmenter, artifact.file("weights.safetensors"))
    return segmenter.eval()
