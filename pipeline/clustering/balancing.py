"""Balanced assignment: every cluster gets about the same share of the points."""

from __future__ import annotations

import math

import torch


def balanced_codes(scores: torch.Tensor, *, epsilon: float, iterations: int) -> torch.Tensor:
    """Soft assignments that give every cluster about the same number of points (SwAV, Caron et al. 2020, eq. 3).

    exp(scores / epsilon) is scaled by Sinkhorn-Knopp, first the clusters to equal sums, then the points, and so on.
    It is done on logarithms: with a small epsilon the exponentials of a far cluster are 0 for all points.

    Args:
        scores: float32 (N, K), larger is nearer.
        epsilon: How smooth the codes are.
        iterations: Rounds over both.

    Returns:
        Logarithms of the codes, float32 (N, K); the exponentials of a row sum to 1.
    """
    N, K = scores.shape
    codes = scores.float() / epsilon
    for _ in range(iterations):
        codes = codes - codes.logsumexp(0, keepdim=True) + math.log(N / K)
        codes = codes - codes.logsumexp(1, keepdim=True)
    return codes
