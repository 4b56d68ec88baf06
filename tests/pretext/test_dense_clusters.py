from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.cli import merge_overrides
from pipeline.data.views import Geometric
from pipeline.params import DenseClustersParams, parse_params
from pipeline.pretext.dense_clusters import DenseClusters, swapped_loss
from pipeline.yaml_reader import read_yaml

SETTINGS = DenseClustersParams(count=5, temperature=0.1, epsilon=0.2, iterations=3)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def cosines(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, SETTINGS.count, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def slow_loss(first: np.ndarray, second: np.ndarray) -> float:
    total = 0.0
    for told, telling in ((first, second), (second, first)):
        codes = np.exp(telling / SETTINGS.epsilon)
        for _ in range(SETTINGS.iterations):
            codes = codes / codes.sum(0, keepdims=True) * len(codes) / codes.shape[1]
            codes = codes / codes.sum(1, keepdims=True)
        for row, code in zip(told / SETTINGS.temperature, codes, strict=True):
            total -= float((code * (row - np.log(np.exp(row).sum()))).sum()) / len(told) / 2
    return total


@pytest.mark.parametrize("n", [1, 3, 40])
def test_each_view_predicts_the_balanced_codes_of_the_other(n):
    first, second = cosines(n, 0), cosines(n, 1)
    expected = slow_loss(first.double().numpy(), second.double().numpy())
    assert swapped_loss(first, second, SETTINGS).item() == pytest.approx(expected, rel=1e-4)
    assert swapped_loss(second, first, SETTINGS).item() == pytest.approx(expected, rel=1e-4)


def test_the_codes_carry_no_gradient():
    first, second = cosines(8, 0).requires_grad_(), cosines(8, 1).requires_grad_()
    gradient = torch.autograd.grad(swapped_loss(first, second, SETTINGS), first)[0]
    # cross-entropy with fixed targets: softmax minus code, which sums to 0 over the clusters
    assert gradient.sum(1).abs().max() < 1e-6
    assert gradient.abs().max() > 1e-4


@pytest.fixture(scope="module")
def model() -> DenseClusters:
    raw = read_yaml(Path(__file__).parents[2] / "params.yaml")
    params = parse_params(merge_overrides(raw, {"pretrain": {"clusters": SETTINGS.model_dump()}})).pretrain
    torch.manual_seed(0)
    return DenseClusters(build_encoder("resnet18", 8, seed=0), params)


def batch(boxes, other_boxes):
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(len(boxes), 3, 32, 32, generator=generator) for _ in range(2))
    still = torch.zeros(len(boxes), dtype=torch.bool)
    crops = Geometric(torch.tensor(boxes), still), Geometric(torch.tensor(other_boxes), still)
    places = torch.rand(len(boxes), 16, 2, generator=generator)
    return views, crops, places, torch.zeros(len(boxes), 16, 2)


def test_it_trains_everything(model):
    model.train().zero_grad()
    losses = model(*batch([WHOLE] * 3, [WHOLE] * 3))
    assert set(losses) == {"loss", "embedding_std"}
    losses["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.clusters.grad.abs().max() > 0
    assert 0 < losses["embedding_std"] < 2


def test_without_any_overlap_the_loss_is_0(model):
    model.train().zero_grad(set_to_none=True)
    losses = model(*batch([(0.0, 0.0, 0.4, 0.4)] * 3, [(0.6, 0.6, 1.0, 1.0)] * 3))
    assert losses["loss"].item() == 0.0
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
