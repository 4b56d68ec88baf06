"""Networks between what is kept and what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(widths: Sequence[int], *, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them.

    Args:
        widths: From input to output.
        last_norm: Whether the output is normalised as well, without learned scale (SimSiam, Barlow Twins).
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def pixel_mlp(width: int, hidden: int, out: int, *, norm: bool = False) -> nn.Sequential:
    """The same at every place of a map: two 1x1 convolutions."""
    first: list[nn.Module] = [nn.Conv2d(width, hidden, 1, bias=not norm)]
    if norm:
        first.append(nn.BatchNorm2d(hidden))
    return nn.Sequential(*first, nn.ReLU(inplace=True), nn.Conv2d(hidden, out, 1))
