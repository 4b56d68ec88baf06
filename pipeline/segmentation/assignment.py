"""How the pixels of a batch get their clusters: the nearest prototype, or a balanced share for every cluster."""

from __future__ import annotations

import torch

from pipeline.clustering.balancing import balanced_codes
from pipeline.params import AssignmentParams
from pipeline.training.dealing import Dealing


def choose_labels(scores: torch.Tensor, params: AssignmentParams, dealing: Dealing | None = None) -> torch.Tensor:
    """Assign every pixel to one prototype.

    Args:
        scores: float32 (B, K, h, w), as `prototype_logits` makes them.
        params: Group `train.assignment`.
        dealing: The processes that share the batch; shares are balanced over all of it. None for one process.

    Returns:
        int64 (B, h, w).
    """
    if params.method == "nearest":
        return scores.argmax(1)
    dealing = dealing or Dealing()
    scores = dealing.gather(scores)
    B, K, h, w = scores.shape
    rows = scores.permute(0, 2, 3, 1).reshape(-1, K)
    codes = balanced_codes(rows, epsilon=params.epsilon, iterations=params.iterations)
    return dealing.own(codes.argmax(1).view(B, h, w))
