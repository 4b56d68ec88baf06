"""SimCLR: two views of an image find each other among all views of the batch (Chen et al. 2020).

Published: ResNet-50, projection 2048 - 2048 - 128, temperature 0.1, batch 4096, LARS 0.3 x batch / 256 (4.8), weight
decay 1e-6, 100 to 1000 epochs, crops of 8 % of the area and more, strong colour changes (preset `pretext-simclr`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, nt_xent
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class SimClr(BackboneMethod):
    """The encoder with SimCLR's projection."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        width = encoder.backbone.widths[-1]
        self.project = mlp([width, params.projection.hidden, params.projection.width])

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std."""
        first, second = self.project(batch.dealing.gather(pool_map(maps), 2)).chunk(2)
        return {"loss": nt_xent(first, second, self.params.temperature), "embedding_std": embedding_std(first)}
