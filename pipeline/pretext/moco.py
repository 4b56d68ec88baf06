"""MoCo v2: a view finds the other among keys of past images, made by a slow copy (He et al. 2020, Chen et al. 2020).

Both views are query and key in turn, as in MoCo v3, so that a step uses all that it encodes. A query must not know its
key by the batch statistics that both were normalised with, and that keys of the past do not share: the published code
shuffles the keys over the devices, each of which has statistics of its own. Here queries are normalised over the whole
batch of all processes, and keys by the statistics of past steps (see `SteadyAverage`), so that a key depends on its own
image alone, in one process or several. That takes one more pass of one view through the slow copy.

Published: ResNet-50, projection 2048 - 2048 - 128 without batch norm, temperature 0.2, queue 65536, momentum 0.999,
SGD 0.03 at batch 256, weight decay 1e-4, 200 to 800 epochs (preset `pretext-moco`). A queue should be much shorter
than the data set, or most images meet their own older keys as negatives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.averaging import Average, KeyQueue, SteadyAverage
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, info_nce, swap_views
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class Moco(BackboneMethod):
    """The encoder with a projection, a slow copy of backbone and projection, and the queue."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        self.project = nn.Sequential(
            nn.Linear(encoder.backbone.widths[-1], hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width)
        )
        self.slow_backbone, self.slow_project = SteadyAverage(encoder.backbone), Average(self.project)
        self.queue = KeyQueue(params.queue, width)

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std."""
        with torch.no_grad():
            if self.training:
                self.slow_backbone.follow(self.encoder.backbone, self.params.momentum)
                self.slow_project.follow(self.project, self.params.momentum)
            slow = pool_map(self.slow_backbone.module(torch.cat(batch.views)))
            keys = F.normalize(self.slow_project.module(batch.dealing.gather(slow, 2)).float(), dim=1)
        queries = F.normalize(self.project(batch.dealing.gather(pool_map(maps), 2)).float(), dim=1)
        loss = info_nce(queries, swap_views(keys), self.queue.keys.clone(), self.params.temperature)
        self.queue.push(keys)
        if self.training:
            self.slow_backbone.learn_statistics(batch.views[0])
        return {"loss": loss, "embedding_std": embedding_std(queries)}
