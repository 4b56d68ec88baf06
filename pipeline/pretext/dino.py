"""DINO: all views tell the distribution that a slow teacher gives the two large ones (Caron et al. 2021).

The teacher's outputs are centred, against one output for all, and sharpened, against even ones. Takes any backbone:
what is compared is the mean of its last map.

Published: ViT-S/16, head of three layers of 2048 and 256, 65536 outputs, 10 small views, teacher's temperature 0.04
rising to 0.07, momentum 0.996 rising to 1, AdamW 5e-4 x batch / 256 at batch 1024, weight decay 0.04 to 0.4, 100 to
800 epochs (preset `pretext-dino`, with a steady 0.04 for both; ResNet-50 with SGD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.averaging import Average, rising_momentum
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import BackboneMethod, Losses, pool_map

STUDENT_TEMPERATURE = 0.1
CENTRE_KEPT = 0.9  # share of the old centre that a step keeps


class DinoHead(nn.Module):
    """Three layers without batch norm, unit length, and cosines to the prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, width) to scores (N, prototypes) and unit embeddings (N, bottleneck), both float32."""
        embeddings = F.normalize(self.project(rows).float(), dim=1)
        with torch.autocast(rows.device.type, enabled=False):
            return embeddings @ F.normalize(self.prototypes, dim=1).T, embeddings


class Dino(BackboneMethod):
    """The encoder with its head, the teacher of both, and the centre of the teacher's outputs."""

    centre: torch.Tensor

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.extra_views = params.dino.extra_views
        projection = params.projection
        self.head = DinoHead(encoder.backbone.widths[-1], projection.hidden, projection.width, params.dino.prototypes)
        self.slow_backbone, self.slow_head = Average(encoder.backbone), Average(self.head)
        self.register_buffer("centre", torch.zeros(params.dino.prototypes))

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std, and teacher_entropy: 1 where the teacher tells nothing, 0 where it is sure."""
        with torch.no_grad():
            if self.training:
                momentum = rising_momentum(self.params.momentum, batch.progress)
                self.slow_backbone.follow(self.encoder.backbone, momentum)
                self.slow_head.follow(self.head, momentum)
            slow = pool_map(self.slow_backbone.module(torch.cat(batch.views)))
            taught, _ = self.slow_head.module(batch.dealing.gather(slow, 2))
            targets = ((taught - self.centre) / self.params.dino.teacher_temperature).softmax(1)
            if self.training and torch.isfinite(taught).all():
                self.centre.lerp_(taught.mean(0), 1 - CENTRE_KEPT)
        rows = batch.dealing.gather(pool_map(maps), 2)
        if batch.extra:
            extra = pool_map(self.encoder.backbone(torch.cat([extra.view for extra in batch.extra])))
            rows = torch.cat([rows, batch.dealing.gather(extra, len(batch.extra))])
        told, embeddings = self.head(rows)
        entropy = torch.special.entr(targets).sum(1).mean() / math.log(targets.shape[1])
        return {
            "loss": distillation_loss(told / STUDENT_TEMPERATURE, targets),
            "embedding_std": embedding_std(embeddings[: len(targets)]),
            "teacher_entropy": entropy,
        }


def distillation_loss(told: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over all pairs of a large view that teaches and another view (Caron et al. 2021, eq. 3).

    Args:
        told: float32 (VB, K), logits of the student for V views, the two large ones first.
        targets: float32 (2B, K), distributions of the teacher.

    Returns:
        Scalar.
    """
    teachers = targets.chunk(2)
    students = told.log_softmax(1).split(len(teachers[0]))
    losses = [
        -(target * student).sum(1).mean()
        for teaching, target in enumerate(teachers)
        for learning, student in enumerate(students)
        if learning != teaching
    ]
    return torch.stack(losses).mean()
