"""SimSiam: a view predicts the other's projection, through which no gradient flows (Chen & He 2021).

Published: ResNet-50, projection of three layers of 2048, predictor 2048 - 512 - 2048, SGD 0.05 x batch / 256 at batch
512, weight decay 1e-4, 100 epochs (preset `pretext-simsiam`). The predictor's hidden layer is a quarter here too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, negative_cosine, swap_views
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class SimSiam(BackboneMethod):
    """The encoder with projection and predictor."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        self.project = mlp([encoder.backbone.widths[-1], hidden, hidden, width], last_norm=True)
        self.predict = mlp([width, max(1, width // 4), width])

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, in -1..1, and embedding_std."""
        projected = self.project(batch.dealing.gather(pool_map(maps), 2))
        loss = negative_cosine(self.predict(projected), swap_views(projected))
        return {"loss": loss, "embedding_std": embedding_std(projected)}
