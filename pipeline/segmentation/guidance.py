"""Pyramid guidance (PGG): the pooled embedding of a cell must tell the cell's pseudo label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.features.pooling import pool_cells
from pipeline.params import PyramidLossParams
from pipeline.segmentation.losses import pyramid_loss
from pipeline.segmentation.model import PyramidHead


@dataclass(frozen=True)
class PyramidLevel:
    """Pseudo labels of the train images at one level.

    Attributes:
        cells: Cells a side.
        k: Number of pseudo labels K_l.
        labels: int64 (N, cells^2), by train image; -1 where a cell has no features.
        margins: float32 (N, cells^2).
        min_margin: Labels less certain than this are left out.
    """

    cells: int
    k: int
    labels: torch.Tensor
    margins: torch.Tensor
    min_margin: float


class PyramidGuidance(nn.Module):
    """The pyramid loss with its heads, one per level.

    Args:
        levels: Pseudo labels of the train images; none switches the guidance off.
        channels: D.
        params: Group `train.pgg`.
        seed: Seed of the heads' weights; torch's global generator is left as it was.
    """

    def __init__(self, levels: Sequence[PyramidLevel], channels: int, params: PyramidLossParams, seed: int) -> None:
        super().__init__()
        self.levels = levels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList([PyramidHead(channels, level.k, params) for level in levels])

    def loss(self, whole: torch.Tensor, indices: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean loss over the levels.

        Args:
            whole: float32 (B, D, h, w), embeddings of whole frames.
            indices: The images' indices.

        Returns:
            Scalar, and for each level the share of cells told right.
        """
        losses, told = [], {}
        for level, head in zip(self.levels, self.heads, strict=True):
            cells = pool_cells(whole, level.cells).flatten(0, 1)
            labels = level.labels[indices].flatten().to(whole.device)
            margins = level.margins[indices].flatten().to(whole.device)
            loss, right = pyramid_loss(head(cells), labels, margins, level.min_margin)
            losses.append(loss)
            told[f"pgg_top1_level_{level.cells}"] = right
        return torch.stack(losses).mean(), told


def min_margin(margins: np.ndarray, drop_fraction: float) -> float:
    """The margin below which the least certain `drop_fraction` of cells lies; minus infinity when none is dropped."""
    return float(np.quantile(margins, drop_fraction)) if drop_fraction and margins.size else float("-inf")
