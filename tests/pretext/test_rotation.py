import pytest
import torch
import torch.nn.functional as F

from pipeline.pretext.rotation import Rotation
from tests.pretext.conftest import settings, tiny_encoder, view_batch


def test_each_image_is_told_in_all_four_positions():
    model = Rotation(tiny_encoder(), settings(method="rotation", channels=8)).eval()
    batch = view_batch(2)
    losses = []
    with torch.no_grad():
        found = model(batch)["method_loss"]
        for image, other in zip(*batch.views, strict=True):
            shown = [image, image.rot90(1, (1, 2)), image.rot90(2, (1, 2)), image.rot90(3, (1, 2)), other]
            for picture, label, weight in zip(shown, (0, 1, 2, 3, 0), (0.5, 1, 1, 1, 0.5), strict=True):
                logits = model.classify(model.encoder.backbone(picture[None])[-1].mean((2, 3)))
                losses.append(weight * F.cross_entropy(logits, torch.tensor([label])).item())
    assert found.item() == pytest.approx(sum(losses) / 8, rel=1e-4)
