from dataclasses import replace

import torch

from pipeline.pretext.byol import Byol
from tests.pretext.conftest import (
    assert_follows,
    assert_teaches_as,
    pooled,
    settings,
    sharpened,
    tiny_encoder,
    view_batch,
)


def build(**changes) -> Byol:
    params = settings(method="byol", channels=8, projection={"hidden": 8, "width": 6}, **changes)
    return Byol(tiny_encoder(), params)


def test_each_view_predicts_what_the_slow_copy_says_of_the_other():
    model, batch = sharpened(build()), view_batch(3)
    losses = []
    for view, other in (batch.views, batch.views[::-1]):
        for image, partner in zip(view, other, strict=True):
            told = model.predict(model.project(pooled(model.encoder.backbone, image)))[0]
            target = model.slow_project.module(pooled(model.slow_backbone.module, partner))[0].detach()
            losses.append((told / told.norm() - target / target.norm()).square().sum())  # eq. 2 of the paper
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(losses).mean())


def test_the_copies_keep_more_of_themselves_as_training_goes_on():
    model = build(momentum=0.9)
    copies = {"slow_backbone.module": model.encoder.backbone, "slow_project.module": model.project}
    assert_follows(model, copies, view_batch(3), 0.9)
    assert_follows(model, copies, replace(view_batch(3), progress=0.5), 0.95)
    assert_follows(model, copies, replace(view_batch(3), progress=1.0), 1.0)
