"""BYOL: a view predicts what a slow copy of the network says about the other (Grill et al. 2020).

Published: ResNet-50, projection and predictor with 4096 hidden units and 256 outputs, momentum 0.996 rising to 1,
batch 4096, LARS 0.2 x batch / 256, weight decay 1.5e-6, 1000 epochs (preset `pretext-byol`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.averaging import Average, rising_momentum
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, negative_cosine, swap_views
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class Byol(BackboneMethod):
    """The encoder with projection and predictor, and a slow copy of backbone and projection."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        self.project = mlp([encoder.backbone.widths[-1], hidden, width])
        self.predict = mlp([width, hidden, width])
        self.slow_backbone, self.slow_project = Average(encoder.backbone), Average(self.project)

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, in 0..4, and embedding_std."""
        with torch.no_grad():
            if self.training:
                momentum = rising_momentum(self.params.momentum, batch.progress)
                self.slow_backbone.follow(self.encoder.backbone, momentum)
                self.slow_project.follow(self.project, momentum)
            slow = pool_map(self.slow_backbone.module(torch.cat(batch.views)))
            target = self.slow_project.module(batch.dealing.gather(slow, 2))
        projected = self.project(batch.dealing.gather(pool_map(maps), 2))
        loss = 2 + 2 * negative_cosine(self.predict(projected), swap_views(target))
        return {"loss": loss, "embedding_std": embedding_std(projected)}
