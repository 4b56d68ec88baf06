from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import build_encoder
from pipeline.pretext.contrast import nt_xent
from pipeline.pretext.global_dense import GlobalDense
from tests.pretext.conftest import WHOLE, settings, view_batch


@pytest.fixture(scope="module")
def model() -> GlobalDense:
    torch.manual_seed(0)
    return GlobalDense(build_encoder("resnet18", 8, seed=0), settings(temperature=0.2, dense_weight=0.5))


def test_the_loss_is_the_weighted_sum_of_both_terms_and_trains_everything(model):
    model.train().zero_grad()
    losses = model(view_batch(3))
    assert set(losses) == {"loss", "global_loss", "dense_loss", "embedding_std"}
    torch.testing.assert_close(losses["loss"], 0.5 * losses["global_loss"] + 0.5 * losses["dense_loss"])
    losses["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(p.grad.abs().sum() > 0 for p in model.parameters()) > 60


def test_the_dense_term_compares_projected_cells(model):
    model.eval()
    batch = view_batch(3, flip=[False, True, False], places=5)
    batch = replace(batch, crops=(batch.crops[0], view_batch(3).crops[1]))
    with torch.no_grad():
        losses = model(batch)
        rows = []
        for view, cut in zip(batch.views, batch.crops, strict=True):
            x = torch.where(cut.flip[:, None], 1 - batch.places[..., 0], batch.places[..., 0])
            grid = torch.stack([x, batch.places[..., 1]], dim=2)[:, None] * 2 - 1
            read = F.grid_sample(model.encoder(view), grid, padding_mode="border", align_corners=False)
            rows.append(model.project_place(read[:, :, 0].transpose(1, 2).flatten(0, 1)))
        pooled = [model.encoder.backbone(view)[-1].mean((2, 3)) for view in batch.views]
        expected = nt_xent(model.project_image(pooled[0]), model.project_image(pooled[1]), 0.2)
    torch.testing.assert_close(losses["dense_loss"], nt_xent(*rows, 0.2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses["global_loss"], expected, atol=1e-4, rtol=1e-4)


def test_without_any_overlap_the_dense_term_is_0_and_the_rest_trains(model):
    model.train().zero_grad(set_to_none=True)
    losses = model(view_batch([(0.0, 0.0, 0.4, 0.4)] * 3, [(0.6, 0.6, 1.0, 1.0)] * 3))
    assert losses["dense_loss"].item() == 0.0
    assert torch.isfinite(losses["loss"])
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_images_without_overlap_are_left_out_of_the_dense_term(model):
    model.eval()
    batch = view_batch([WHOLE, (0.0, 0.0, 0.4, 0.4), WHOLE], [WHOLE, (0.6, 0.6, 1.0, 1.0), WHOLE])
    kept = [0, 2]
    rest = replace(
        view_batch(2),
        views=(batch.views[0][kept], batch.views[1][kept]),
        places=batch.places[kept],
        offsets=batch.offsets[kept],
    )
    with torch.no_grad():
        losses, alone = model(batch), model(rest)
    torch.testing.assert_close(losses["dense_loss"], alone["dense_loss"], atol=1e-4, rtol=1e-4)
