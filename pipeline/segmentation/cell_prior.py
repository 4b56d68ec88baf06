"""Pyramid pseudo labels as a prior: how often pixels in cells of a label belong to each pixel cluster."""

from __future__ import annotations

from collections.abc import Sequence

import torch

SMOOTHING = 1.0  # pixels added to every count, so that no cluster is ruled out


class CellPrior:
    """Counts of pixel clusters by pyramid label, one table per level.

    Args:
        label_counts: Number of pyramid labels K_l of each level.
        k: Pixel clusters K.
    """

    def __init__(self, label_counts: Sequence[int], k: int) -> None:
        self.k = k
        self.counts = [torch.zeros(labels, k, dtype=torch.int64) for labels in label_counts]

    def clear(self) -> None:
        """Forget all counts; the prior is flat then."""
        for table in self.counts:
            table.zero_()

    def add(self, labels: Sequence[torch.Tensor], assigned: torch.Tensor) -> None:
        """Count pixels.

        Args:
            labels: For each level int64 (n,), the pyramid label of each pixel's cell; -1 is not counted.
            assigned: int64 (n,), the pixels' clusters.
        """
        for table, of_level in zip(self.counts, labels, strict=True):
            known = of_level >= 0
            pairs = of_level[known] * self.k + assigned[known]
            table += torch.bincount(pairs.cpu(), minlength=table.numel()).view_as(table)

    def log_prior(self, labels: Sequence[torch.Tensor]) -> torch.Tensor:
        """log P(k | y of the pixel's cell), the mean over the levels.

        Args:
            labels: For each level int64 (B, h, w); a level whose cell has no label (-1) counts as flat.

        Returns:
            float32 (B, K, h, w), on the device of the labels.
        """
        total = torch.zeros((), device=labels[0].device)
        for table, of_level in zip(self.counts, labels, strict=True):
            smooth = table.double() + SMOOTHING
            shares = (smooth / smooth.sum(1, keepdim=True)).log()
            flat = torch.full((1, self.k), 1 / self.k, dtype=torch.float64).log()
            rows = torch.cat([shares, flat]).float().to(of_level.device)  # label -1 takes the last row
            total = total + rows[of_level].permute(0, 3, 1, 2)
        return total / len(self.counts)
