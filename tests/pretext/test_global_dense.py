from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import build_encoder
from pipeline.cli import merge_overrides
from pipeline.data.views import Geometric
from pipeline.params import parse_params
from pipeline.pretext.contrast import nt_xent
from pipeline.pretext.global_dense import GlobalDense
from pipeline.yaml_reader import read_yaml


def crops(boxes, flip=None) -> Geometric:
    return Geometric(torch.tensor(boxes), torch.tensor(flip or [False] * len(boxes)))


def places(batch: int, count: int = 16) -> torch.Tensor:
    return torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> GlobalDense:
    torch.manual_seed(0)
    raw = read_yaml(Path(__file__).parents[2] / "params.yaml")
    params = parse_params(merge_overrides(raw, {"pretrain": {"temperature": 0.2, "dense_weight": 0.5}})).pretrain
    return GlobalDense(build_encoder("resnet18", 8, seed=0), params)


def views(batch: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 32, 32, generator=generator), torch.randn(batch, 3, 32, 32, generator=generator)


WHOLE = (0.0, 0.0, 1.0, 1.0)


def test_the_loss_is_the_weighted_sum_of_both_terms_and_trains_everything(model):
    model.train().zero_grad()
    losses = model(views(), (crops([WHOLE] * 3), crops([WHOLE] * 3)), places(3), torch.zeros(3, 16, 2))
    assert set(losses) == {"loss", "global_loss", "dense_loss", "embedding_std"}
    torch.testing.assert_close(losses["loss"], 0.5 * losses["global_loss"] + 0.5 * losses["dense_loss"])
    losses["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(p.grad.abs().sum() > 0 for p in model.parameters()) > 60


def test_the_dense_term_compares_projected_cells(model):
    model.eval()
    pair, cuts, spots = views(), (crops([WHOLE] * 3, [False, True, False]), crops([WHOLE] * 3)), places(3, 5)
    with torch.no_grad():
        losses = model(pair, cuts, spots, torch.zeros(3, 5, 2))
        decoded = [model.encoder(view) for view in pair]
        rows = []
        for map_, cut in zip(decoded, cuts, strict=True):
            x = torch.where(cut.flip[:, None], 1 - spots[..., 0], spots[..., 0])
            grid = torch.stack([x, spots[..., 1]], dim=2)[:, None] * 2 - 1
            read = F.grid_sample(map_, grid, padding_mode="border", align_corners=False)
            rows.append(model.project_place(read[:, :, 0].transpose(1, 2).flatten(0, 1)))
        pooled = [model.encoder.backbone(view)[-1].mean((2, 3)) for view in pair]
        expected = nt_xent(model.project_image(pooled[0]), model.project_image(pooled[1]), 0.2)
    torch.testing.assert_close(losses["dense_loss"], nt_xent(*rows, 0.2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses["global_loss"], expected, atol=1e-4, rtol=1e-4)


def test_without_any_overlap_the_dense_term_is_0_and_the_rest_trains(model):
    model.train().zero_grad(set_to_none=True)
    apart = crops([(0.0, 0.0, 0.4, 0.4)] * 3), crops([(0.6, 0.6, 1.0, 1.0)] * 3)
    losses = model(views(), apart, places(3), torch.zeros(3, 16, 2))
    assert losses["dense_loss"].item() == 0.0
    assert torch.isfinite(losses["loss"])
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_images_without_overlap_are_left_out_of_the_dense_term(model):
    model.eval()
    first = crops([WHOLE, (0.0, 0.0, 0.4, 0.4), WHOLE])
    second = crops([WHOLE, (0.6, 0.6, 1.0, 1.0), WHOLE])
    pair, spots, still = views(), places(3), torch.zeros(3, 16, 2)
    kept = [0, 2]
    with torch.no_grad():
        losses = model(pair, (first, second), spots, still)
        whole = crops([WHOLE, WHOLE])
        alone = model((pair[0][kept], pair[1][kept]), (whole, whole), spots[kept], still[kept])
    torch.testing.assert_close(losses["dense_loss"], alone["dense_loss"], atol=1e-4, rtol=1e-4)
