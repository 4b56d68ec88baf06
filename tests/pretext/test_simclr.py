import math

import torch
import torch.nn.functional as F

from pipeline.pretext.simclr import SimClr
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


def test_every_view_finds_its_partner_among_all_other_views():
    params = settings(method="simclr", channels=8, temperature=0.3, projection={"hidden": 8, "width": 6})
    model, batch = sharpened(SimClr(tiny_encoder(), params)), view_batch(3)
    rows = []
    for view in batch.views:
        for image in view:
            rows.append(F.normalize(model.project(pooled(model.encoder.backbone, image))[0], dim=0))
    losses = []
    for i, row in enumerate(rows):
        alike = [torch.exp(row @ other / 0.3) for other in rows]
        losses.append(-torch.log(alike[(i + 3) % 6] / sum(alike[k] for k in range(6) if k != i)))
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(losses).mean())
    assert model(batch)["method_loss"].item() < math.log(5) + 1 / 0.3
