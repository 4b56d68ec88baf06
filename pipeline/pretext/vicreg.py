"""VICReg: alike in two views, every channel varied, no two channels correlated (Bardes et al. 2022).

Published: ResNet-50, projection of three layers of 8192, weights 25, 25 and 1, batch 2048, LARS 0.2 x batch / 256,
weight decay 1e-6, 1000 epochs (preset `pretext-vicreg`). Wants batches of 64 or more, as Barlow Twins does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
TARGET_STD = 1.0
EPSILON = 1e-4


class VicReg(BackboneMethod):
    """The encoder with the expander."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        self.project = mlp([encoder.backbone.widths[-1], hidden, hidden, width])

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, its weighted terms invariance, variance and covariance, and embedding_std."""
        first, second = self.project(batch.dealing.gather(pool_map(maps), 2)).float().chunk(2)
        with torch.autocast(first.device.type, enabled=False):
            terms = variance_terms(first, second)
        return {"loss": sum(terms.values(), first.new_zeros(())), **terms, "embedding_std": embedding_std(first)}


def variance_terms(first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weighted terms of the loss (Bardes et al. 2022, eq. 1-5).

    The invariance is a mean over the channels too, as in the authors' code; eq. 5 has their sum.

    Args:
        first: float32 (N, D), N at least 2.
        second: float32 (N, D), of the same images in another view.

    Returns:
        Scalars invariance, variance, covariance.
    """
    N, D = first.shape
    variance, covariance = first.new_zeros(()), first.new_zeros(())
    for rows in (first, second):
        centred = rows - rows.mean(0)
        variance = variance + F.relu(TARGET_STD - (centred.square().sum(0) / (N - 1) + EPSILON).sqrt()).mean() / 2
        matrix = centred.T @ centred / (N - 1)
        covariance = covariance + (matrix.square().sum() - matrix.diagonal().square().sum()) / D
    return {
        "invariance": INVARIANCE * F.mse_loss(first, second),
        "variance": VARIANCE * variance,
        "covariance": COVARIANCE * covariance,
    }
