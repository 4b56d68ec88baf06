import torch
import torch.nn.functional as F

from pipeline.pretext.rotation import Rotation
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


def test_each_image_is_told_in_all_four_positions():
    model, batch = sharpened(Rotation(tiny_encoder(), settings(method="rotation", channels=8))), view_batch(2)
    losses = []
    for image, other in zip(*batch.views, strict=True):
        shown = [image, image.rot90(1, (1, 2)), image.rot90(2, (1, 2)), image.rot90(3, (1, 2)), other]
        for picture, label, weight in zip(shown, (0, 1, 2, 3, 0), (0.5, 1, 1, 1, 0.5), strict=True):
            logits = model.classify(pooled(model.encoder.backbone, picture))
            losses.append(weight * F.cross_entropy(logits, torch.tensor([label])))
    assert_teaches_as(model, model(batch)["method_loss"], sum(losses) / 8)
