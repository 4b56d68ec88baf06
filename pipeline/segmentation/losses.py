"""Pixel assignment, and the two losses that supervise the segmenter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from pipeline.training.dealing import Dealing

NEVER = -1e9  # below any score of unit embeddings, and finite, so that enlarging it bilinearly gives no NaN
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


def best_of_groups(scores: torch.Tensor, groups: torch.Tensor, k: int) -> torch.Tensor:
    """Scores of merged clusters: the best of their fine prototypes, so that the nearest one still decides.

    Args:
        scores: float32 (B, F, h, w).
        groups: int64 (F,), the cluster in 0..K-1 of each fine prototype.
        k: Number of clusters K.

    Returns:
        float32 (B, K, h, w); `NEVER` for a cluster without prototypes.
    """
    B, _, h, w = scores.shape
    index = groups[None, :, None, None].expand_as(scores)
    return scores.new_full((B, k, h, w), NEVER).scatter_reduce(1, index, scores, "amax")


def pixel_loss(
    embedding: torch.Tensor,
    prototypes: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float,
    weights: torch.Tensor | None,
    groups: torch.Tensor | None = None,
    dealing: Dealing | None = None,
) -> torch.Tensor:
    """Cross-entropy of the similarities to frozen prototypes (Cho et al. 2021, eq. 4-5).

    Where fine prototypes were merged, a cluster's probability is the sum of those of its fine prototypes.

    Args:
        embedding: float32 (B, D, h, w), unit norm.
        prototypes: float32 (K, D); fine ones (F, D) if there are groups.
        labels: int64 (B, h, w).
        temperature: Divides the similarities.
        weights: float32 (K,), or None for equal ones.
        groups: int64 (F,), the cluster in 0..K-1 of each fine prototype.
        dealing: The processes that share the batch, of which these are one's own images; None for one process.

    Returns:
        Scalar, the mean over the whole batch.
    """
    logits = F.conv2d(embedding, prototypes[:, :, None, None]) / temperature
    if groups is not None:
        members = [logits[:, groups == group].logsumexp(1) for group in range(int(groups.max()) + 1)]
        logits = torch.stack(members, dim=1)  # (B, K, h, w)
    if dealing is None or not dealing.is_shared:
        return F.cross_entropy(logits, labels, weight=weights)
    summed = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
    counted = logits.new_tensor(labels.numel()) if weights is None else weights[labels].sum()
    summed, counted = dealing.total(torch.stack([summed, counted]))
    return summed / counted


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
