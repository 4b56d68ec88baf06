"""Pyramid pseudo labels as contrast: cells of the same label attract each other, no head is needed."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cell_contrast_loss(
    cells: torch.Tensor, labels: torch.Tensor, margins: torch.Tensor, min_margin: float, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Supervised contrast among the cells of one level in a batch (Khosla et al. 2020, eq. 2, L_out).

    Args:
        cells: float32 (N, D), pooled embeddings of any length; they are brought to unit norm.
        labels: int64 (N,); -1 marks a cell without features.
        margins: float32 (N,), how certain each label is.
        min_margin: Cells below are left out, as anchors and as partners.
        temperature: Divides the cosines.

    Returns:
        Mean loss of the anchors that have a cell of the same label (0 if none has), and the share of these anchors
        whose nearest cell has their label.
    """
    counted = (labels >= 0) & (margins >= min_margin)
    rows, labels = F.normalize(cells[counted].float(), dim=1), labels[counted]
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positive = (labels[:, None] == labels) & ~itself  # (n, n)
    anchors = positive.any(1)
    if not anchors.any():
        return cells.sum() * 0.0, torch.zeros((), device=cells.device)
    with torch.autocast(rows.device.type, enabled=False):
        cosines = (rows @ rows.T / temperature).masked_fill(itself, float("-inf"))  # (n, n)
    log_shares = (cosines - cosines.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    losses = -(log_shares * positive).sum(1)[anchors] / positive.sum(1)[anchors]
    nearest = labels[cosines.argmax(1)] == labels
    return losses.mean(), nearest[anchors].float().mean()
