"""What the two-view methods share: the contrastive loss (NT-Xent), projections, and the spread of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

PROJECTION = 128  # width of all projections, as in SimCLR


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Each row must find its partner in the other view among all rows of both views (Chen et al. 2020, eq. 1).

    Args:
        first: (N, D), any norm; row i of both tensors shows the same thing.
        second: (N, D).
        temperature: Scale of the cosine similarities.

    Returns:
        Scalar float32; 0 when N is 0.
    """
    N = first.shape[0]
    if N == 0:
        return first.sum() * 0.0
    with torch.autocast(first.device.type, enabled=False):
        rows = F.normalize(torch.cat([first, second]).float(), dim=1)  # (2N, D)
        logits = rows @ rows.T / temperature
        logits.fill_diagonal_(float("-inf"))
        partner = torch.arange(2 * N, device=rows.device).roll(N)
        return F.cross_entropy(logits, partner)


def embedding_std(rows: torch.Tensor) -> torch.Tensor:
    """Spread of unit embeddings, scaled so that evenly spread ones score 1 and collapsed ones 0.

    Args:
        rows: (N, D), any norm.

    Returns:
        Scalar: standard deviation over the batch, mean over the channels, times the root of D.
    """
    rows = F.normalize(rows.detach().float(), dim=1)
    return rows.std(dim=0).mean() * rows.shape[1] ** 0.5


def projector(width: int, hidden: int) -> nn.Sequential:
    """The network between what is kept and what is compared: `width` to 128 channels (Chen et al. 2020)."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, PROJECTION),
    )


def info_nce(queries: torch.Tensor, keys: torch.Tensor, negatives: torch.Tensor, temperature: float) -> torch.Tensor:
    """Each query must find its key among keys of the past (He et al. 2020, eq. 1).

    Args:
        queries: float32 (N, D), unit norm.
        keys: float32 (N, D), unit norm; row i is the match of query i.
        negatives: float32 (Q, D), unit norm.
        temperature: Scale of the cosine similarities.

    Returns:
        Scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def negative_cosine(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Minus the mean cosine of rows (N, D) and their targets, which carry no gradient (Chen & He 2021, eq. 1)."""
    return -F.cosine_similarity(predicted.float(), target.detach().float(), dim=1).mean()


def swap_views(rows: torch.Tensor) -> torch.Tensor:
    """(2B, ...) of view 1 and view 2 as view 2 and view 1."""
    return torch.cat(rows.chunk(2)[::-1])
