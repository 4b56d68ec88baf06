import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.pretext.dense_clusters import DenseClusters
from tests.pretext.conftest import settings, view_batch


@pytest.fixture(scope="module", params=[0, 2])
def model(request) -> DenseClusters:
    torch.manual_seed(0)
    return DenseClusters(build_encoder("resnet18", 8, seed=0), settings(clusters={"extra_views": request.param}))


def test_it_trains_everything(model):
    model.train().zero_grad()
    losses = model(view_batch(3, extra=model.extra_views))
    assert set(losses) == {"loss", "embedding_std"}
    losses["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.clusters.clusters.grad.abs().max() > 0
    assert 0 < losses["embedding_std"] < 2


def test_without_any_overlap_the_loss_is_0(model):
    model.train().zero_grad(set_to_none=True)
    batch = view_batch([(0.0, 0.0, 0.4, 0.4)] * 3, [(0.6, 0.6, 1.0, 1.0)] * 3, extra=model.extra_views)
    losses = model(batch)
    assert losses["loss"].item() == 0.0
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_extra_views_change_the_loss(model):
    model.eval()
    with torch.no_grad():
        assert (model(view_batch(3, extra=1))["loss"] == model(view_batch(3))["loss"]).item() is False
