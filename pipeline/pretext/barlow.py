"""Barlow Twins: the cross-correlation of two views should be the identity (Zbontar et al. 2021).

Published: ResNet-50, projection of three layers of 8192, weight 0.0051 of the off-diagonal, batch 2048, LARS 0.2 x
batch / 256, weight decay 1.5e-6, 1000 epochs (preset `pretext-barlow`). Correlations over a batch of a few images say
little: give `pretrain.batch_size` 64 or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map

OFF_DIAGONAL = 0.0051
EPSILON = 1e-5  # as in batch norm


class BarlowTwins(BackboneMethod):
    """The encoder with the projection."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        self.project = mlp([encoder.backbone.widths[-1], hidden, hidden, width])

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std."""
        first, second = self.project(batch.dealing.gather(pool_map(maps), 2)).float().chunk(2)
        with torch.autocast(first.device.type, enabled=False):
            loss = redundancy_loss(first, second)
        return {"loss": loss, "embedding_std": embedding_std(first)}


def redundancy_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Distance of the cross-correlation from the identity (Zbontar et al. 2021, eq. 1), over the width.

    The published sum over all channels is divided by their number: the step sizes of AdamW do not care, and the
    decoder's loss stays comparable.

    Args:
        first: float32 (N, D).
        second: float32 (N, D), of the same images in another view.

    Returns:
        Scalar.
    """
    N, D = first.shape
    one, two = ((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + EPSILON).sqrt() for rows in (first, second))
    correlation = one.T @ two / N  # (D, D)
    diagonal = correlation.diagonal()
    on = (1 - diagonal).square().sum()
    off = correlation.square().sum() - diagonal.square().sum()
    return (on + OFF_DIAGONAL * off) / D
