"""How the pixels of a batch get their clusters: the nearest prototype, or a balanced share for every cluster."""

from __future__ import annotations

import math

import torch

from pipeline.params import AssignmentParams


def choose_labels(scores: torch.Tensor, params: AssignmentParams) -> torch.Tensor:
    """Assign every pixel to one prototype.

    Args:
        scores: float32 (B, K, h, w), as `prototype_logits` makes them.
        params: Group `train.assignment`.

    Returns:
        int64 (B, h, w).
    """
    if params.method == "nearest":
        return scores.argmax(1)
    return balanced_codes(scores, epsilon=params.epsilon, iterations=params.iterations).argmax(1)


def balanced_codes(scores: torch.Tensor, *, epsilon: float, iterations: int) -> torch.Tensor:
    """Soft assignments that give every prototype about the same number of pixels (SwAV, Caron et al. 2020, eq. 3).

    exp(scores / epsilon) is scaled by Sinkhorn-Knopp, first the prototypes to equal sums, then the pixels, and so
    on. It is done on logarithms: with a small epsilon the exponentials of a far prototype are 0 for all pixels.

    Args:
        scores: float32 (B, K, h, w).
        epsilon: How smooth the codes are.
        iterations: Rounds over both.

    Returns:
        Logarithms of the codes of every pixel, float32 (B, K, h, w); exponentials sum to 1 over K.
    """
    B, K, h, w = scores.shape
    codes = scores.float() / epsilon
    for _ in range(iterations):
        codes = codes - codes.logsumexp((0, 2, 3), keepdim=True) + math.log(B * h * w / K)
        codes = codes - codes.logsumexp(1, keepdim=True)
    return codes
