import torch

from pipeline.pretext.simsiam import SimSiam
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


def test_each_view_predicts_the_projection_of_the_other_which_carries_no_gradient():
    params = settings(method="simsiam", channels=8, projection={"hidden": 8, "width": 12})
    model, batch = sharpened(SimSiam(tiny_encoder(), params)), view_batch(3)
    losses = []
    for view, other in (batch.views, batch.views[::-1]):
        for image, partner in zip(view, other, strict=True):
            told = model.predict(model.project(pooled(model.encoder.backbone, image)))[0]
            target = model.project(pooled(model.encoder.backbone, partner))[0].detach()
            losses.append(-(told @ target) / told.norm() / target.norm())  # eq. 1 of the paper
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(losses).mean())
