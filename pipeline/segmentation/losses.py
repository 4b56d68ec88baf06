"""Pixel assignment, and the two losses that supervise the segmenter."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

ClusterWeights = Literal["uniform", "inverse_sqrt", "proportional"]


def prototype_logits(embedding: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Scores whose largest is the nearest prototype: <e, mu> - |mu|^2 / 2.

    Prototypes are means of unit vectors and shorter than 1, the more so the more spread out their cluster; without
    the second term tight clusters would take pixels that lie nearer to loose ones.

    Args:
        embedding: float32 (B, D, h, w).
        prototypes: float32 (K, D).

    Returns:
        float32 (B, K, h, w).
    """
    # bfloat16 has steps of 0.004 near 1, wider than many margins between clusters
    with torch.autocast(embedding.device.type, enabled=False):
        half_norms = prototypes.square().sum(1) / 2
        return F.conv2d(embedding, prototypes[:, :, None, None], -half_norms)


def assign_pixels(embedding: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Nearest prototype of every pixel: (B, D, h, w) and (K, D) to int64 (B, h, w)."""
    return prototype_logits(embedding, prototypes).argmax(1)


def pixel_loss(
    embedding: torch.Tensor,
    prototypes: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Cross-entropy of the similarities to frozen prototypes (Cho et al. 2021, eq. 4-5).

    Args:
        embedding: float32 (B, D, h, w), unit norm.
        prototypes: float32 (K, D).
        labels: int64 (B, h, w).
        temperature: Divides the similarities.
        weights: float32 (K,), or None for equal ones.

    Returns:
        Scalar.
    """
    similarities = F.conv2d(embedding, prototypes[:, :, None, None])
    return F.cross_entropy(similarities / temperature, labels, weight=weights)


def cluster_weights(sizes: torch.Tensor, kind: ClusterWeights) -> torch.Tensor | None:
    """Loss weight of each cluster from its size, with mean 1; None for equal weights.

    Args:
        sizes: (K,), pixels per cluster.
        kind: `proportional` to the size (what PiCIE's code does), `inverse_sqrt` of it, or `uniform`.
    """
    if kind == "uniform":
        return None
    sizes = sizes.float().clamp(min=1)
    weights = sizes if kind == "proportional" else sizes.rsqrt()
    return weights * len(weights) / weights.sum()


def pyramid_loss(
    logits: torch.Tensor, labels: torch.Tensor, margins: torch.Tensor, min_margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """How well cells tell their pyramid pseudo labels (PGG), at one level.

    Args:
        logits: float32 (N, K_l), one row per cell.
        labels: int64 (N,); -1 marks a cell without features.
        margins: float32 (N,), how certain each label is.
        min_margin: Cells below are left out.

    Returns:
        Mean cross-entropy over the cells that count (0 if there are none), and the share of them told right.
    """
    counted = (labels >= 0) & (margins >= min_margin)
    if not counted.any():
        return logits.sum() * 0.0, torch.zeros((), device=logits.device)
    logits, labels = logits[counted], labels[counted]
    return F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()
