"""Rotation: tell by how many quarters an image was turned (Gidaris et al. 2018).

Every image comes in all four positions; the upright one in both views, each with half the weight. Useless where
images have no upright position, as from the air.

Published: AlexNet, SGD 0.1 with Nesterov's momentum at batch 192, weight decay 5e-4, 50 epochs, a tenth of the rate
after 15, 30 and 45, crops of 8 % of the area and more (the authors' configuration for ImageNet; preset
`pretext-rotation`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import BackboneMethod, Losses, pool_map


class Rotation(BackboneMethod):
    """The encoder with a classifier of four quarters."""

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.classify = nn.Linear(encoder.backbone.widths[-1], 4)

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std, and top1: share of views whose turn was told."""
        first = batch.views[0]
        turned = torch.cat([torch.rot90(first, quarters, (2, 3)) for quarters in (1, 2, 3)])
        turned = turned.contiguous(memory_format=torch.channels_last)
        upright = batch.dealing.gather(pool_map(maps), 2)  # (2B, D)
        others = batch.dealing.gather(pool_map(self.encoder.backbone(turned)), 3)
        B = len(upright) // 2
        logits = self.classify(torch.cat([upright, others])).float()
        labels = torch.tensor([0, 0, 1, 2, 3], device=logits.device).repeat_interleave(B)
        weight = torch.tensor([0.5, 1.0, 1.0, 1.0], device=logits.device)
        return {
            "loss": F.cross_entropy(logits, labels, weight),
            "embedding_std": embedding_std(upright),
            "top1": (logits.argmax(1) == labels).float().mean(),
        }
