"""Networks that follow another one slowly (mean teacher, Tarvainen & Valpola 2017), and queues of what they said."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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


class SteadyAverage(Average):
    """A moving average that sees every image by itself, as in EMAN (Cai et al. 2021).

    Its batch norms normalise by the statistics of past batches, never by those of the present one: what it says of an
    image tells nothing of the others. The statistics are its own. EMAN averages the source's, which after a few
    hundred steps do not fit the weights of the average yet, so that it says nearly the same of all images.

    Args:
        source: See `Average`.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__(source)
        self.eval()

    def train(self, mode: bool = True) -> SteadyAverage:
        """Stay in evaluation mode, whatever the method around it does."""
        super().train(False)
        return self

    @torch.no_grad()
    def learn_statistics(self, images: torch.Tensor) -> None:
        """Take in the statistics of a batch (B, 3, h, w), after the step's own pass: they serve later steps only."""
        norms = [module for module in self.module.modules() if isinstance(module, _BatchNorm)]
        if norms:
            for norm in norms:
                norm.train()
            self.module(images)
            self.eval()


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
