"""DenseCL: MoCo for images and for the cells of the backbone's map (Wang et al. 2021).

A cell's match in the other view is the cell whose backbone feature is most alike; its negatives are the mean dense
keys of past images. Both views are query and key in turn, and keys are normalised as those of `moco`.

Published: as MoCo v2, with half the weight on the dense term (`pretrain.dense_weight` 0.5; preset `pretext-densecl`).
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
from pipeline.pretext.heads import pixel_mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class DenseCl(BackboneMethod):
    """The encoder with a global and a dense projection, slow copies of all, and two queues."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        hidden, width = params.projection.hidden, params.projection.width
        body = encoder.backbone.widths[-1]
        self.project = nn.Sequential(nn.Linear(body, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width))
        self.project_cells = pixel_mlp(body, hidden, width)
        self.slow_backbone, self.slow_project = SteadyAverage(encoder.backbone), Average(self.project)
        self.slow_project_cells = Average(self.project_cells)
        self.queue, self.cell_queue = KeyQueue(params.queue, width), KeyQueue(params.queue, width)

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, global_loss, dense_loss, embedding_std."""
        if self.training:
            self.slow_backbone.follow(self.encoder.backbone, self.params.momentum)
            self.slow_project.follow(self.project, self.params.momentum)
            self.slow_project_cells.follow(self.project_cells, self.params.momentum)
        with torch.no_grad():
            slow = self.slow_backbone.module(torch.cat(batch.views))
            keys = self.slow_project.module(batch.dealing.gather(pool_map(slow), 2))
            keys = F.normalize(keys.float(), dim=1)
            cell_keys = F.normalize(self.slow_project_cells.module(slow[-1]).float(), dim=1)  # (2B, D, h, w)
            matches = match_cells(maps[-1].float(), swap_views(slow[-1].float()))  # (2B, h * w)
        queries = F.normalize(self.project(batch.dealing.gather(pool_map(maps), 2)).float(), dim=1)
        cell_queries = F.normalize(self.project_cells(maps[-1]).float(), dim=1)
        global_loss = info_nce(queries, swap_views(keys), self.queue.keys.clone(), self.params.temperature)
        found = swap_views(cell_keys).flatten(2).gather(2, matches[:, None].expand(-1, cell_keys.shape[1], -1))
        dense_loss = info_nce(
            cell_queries.flatten(2).transpose(1, 2).flatten(0, 1),
            found.transpose(1, 2).flatten(0, 1),
            self.cell_queue.keys.clone(),
            self.params.temperature,
        )
        dense_loss = batch.dealing.mean(dense_loss)
        self.queue.push(keys)
        self.cell_queue.push(F.normalize(batch.dealing.gather(cell_keys.mean((2, 3)), 2), dim=1))
        if self.training:
            self.slow_backbone.learn_statistics(batch.views[0])
        weight = self.params.dense_weight
        return {
            "loss": (1 - weight) * global_loss + weight * dense_loss,
            "global_loss": global_loss,
            "dense_loss": dense_loss,
            "embedding_std": embedding_std(queries),
        }


def match_cells(maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The cell of another map that is most alike to each cell, by cosine (Wang et al. 2021, eq. 3).

    Args:
        maps: float32 (B, D, h, w).
        others: float32 (B, D, h', w'); map i is compared with map i.

    Returns:
        int64 (B, h * w), positions row by row in the other map.
    """
    first, second = F.normalize(maps, dim=1).flatten(2), F.normalize(others, dim=1).flatten(2)
    with torch.autocast(maps.device.type, enabled=False):  # bfloat16 would find many equally near
        return torch.einsum("bdi,bdj->bij", first, second).argmax(2)
