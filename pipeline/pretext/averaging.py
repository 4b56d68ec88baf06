"""Networks that follow another one slowly (mean teacher, Tarvainen & Valpola 2017), and queues of what they said."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn


class Average(nn.Module):
    """A moving average of the weights of another module.

    Statistics of batch norms are not averaged: the average sees batches itself, so that they fit its own weights.

    Args:
        source: What is followed; the average starts as its copy and does not keep it.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def follow(self, source: nn.Module, momentum: float) -> None:
        """Take in present weights; `momentum` is the share of the old average that stays."""
        for average, weight in zip(self.module.parameters(), source.parameters(), strict=True):
            average.lerp_(weight, 1 - momentum)


def rising_momentum(start: float, progress: float) -> float:
    """From `start` to 1 along half a cosine (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class KeyQueue(nn.Module):
    """The last keys, which serve as negatives (MoCo, He et al. 2020); random directions until enough have come.

    Args:
        size: Number of keys.
        width: D of a key.
    """

    keys: torch.Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=1))

    @torch.no_grad()
    def push(self, keys: torch.Tensor) -> None:
        """Put unit keys (N, D) in place of the oldest; keys of a step that the loop will throw away are left out."""
        if self.training and torch.isfinite(keys).all():
            self.keys.copy_(torch.cat([self.keys, keys])[-len(self.keys) :])
