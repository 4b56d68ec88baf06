import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline.pretext.dino import Dino, distillation_loss
from tests.pretext.conftest import (
    assert_follows,
    assert_teaches_as,
    pooled,
    settings,
    sharpened,
    tiny_encoder,
    view_batch,
)

PARAMS = settings(
    method="dino", channels=8, projection={"hidden": 8, "width": 6}, dino={"prototypes": 7, "extra_views": 2}
)


def test_every_view_learns_from_the_large_views_but_itself():
    rng = torch.Generator().manual_seed(0)
    told, targets = torch.randn(4 * 3, 5, generator=rng), torch.randn(2 * 3, 5, generator=rng).softmax(1)
    total, pairs = 0.0, 0
    for teacher in range(2):
        for student in range(4):
            if student != teacher:
                for image in range(3):
                    chances = told[student * 3 + image].double().softmax(0).log()
                    total -= float(targets[teacher * 3 + image].double() @ chances) / 3
                pairs += 1
    assert pairs == 6
    assert distillation_loss(told, targets).item() == pytest.approx(total / pairs, rel=1e-5)


def model() -> Dino:
    return Dino(tiny_encoder(), PARAMS)


def scores_of(backbone, head, view: torch.Tensor) -> torch.Tensor:
    """Cosines of each image of a view to the prototypes, (B, K)."""
    rows = torch.cat([F.normalize(head.project(pooled(backbone, image)), dim=1) for image in view])
    return rows @ F.normalize(head.prototypes, dim=1).T


def test_the_teacher_is_centred_and_sharpened_and_the_centre_follows():
    dino, batch = sharpened(model()), view_batch(3, extra=2)
    dino.centre.copy_(torch.linspace(-0.1, 0.1, 7))
    views = [*batch.views, *(extra.view for extra in batch.extra)]
    told = torch.cat([scores_of(dino.encoder.backbone, dino.head, view) for view in views])
    taught = [scores_of(dino.slow_backbone.module, dino.slow_head.module, view) for view in batch.views]
    targets = torch.cat([((scores - dino.centre) / 0.04).softmax(1) for scores in taught]).detach()
    found = dino(batch)
    assert_teaches_as(dino, found["method_loss"], distillation_loss(told / 0.1, targets))
    entropy = -(targets * targets.log()).sum(1).mean() / math.log(7)
    assert found["teacher_entropy"].item() == pytest.approx(entropy.item(), rel=1e-3)
    before = dino.centre.clone()
    dino.train()
    dino(batch)
    assert 0 < (dino.centre - before).abs().max() < 0.2


def test_the_teacher_starts_as_the_student_and_follows_it():
    dino = model().train()
    with torch.no_grad():
        dino.head.prototypes.add_(1.0)
    dino(view_batch(3, extra=2))
    moved = dino.slow_head.module.prototypes - (dino.head.prototypes - 1.0)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), atol=1e-5, rtol=0)


def test_the_teacher_keeps_more_of_itself_as_training_goes_on():
    dino = model()
    copies = {"slow_backbone.module": dino.encoder.backbone, "slow_head.module": dino.head}
    assert_follows(dino, copies, view_batch(3, extra=2), 0.99)
    assert_follows(dino, copies, replace(view_batch(3, extra=2), progress=0.5), 0.995)
