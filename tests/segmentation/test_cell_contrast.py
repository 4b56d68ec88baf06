import math

import pytest
import torch
import torch.nn.functional as F

from pipeline.segmentation.cell_contrast import cell_contrast_loss


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_loss(cells, labels, margins, min_margin, temperature):
    kept = [i for i in range(len(cells)) if labels[i] >= 0 and margins[i] >= min_margin]
    unit = {i: (cells[i].double() / cells[i].double().norm()).tolist() for i in kept}

    def similarity(i, j):
        return sum(a * b for a, b in zip(unit[i], unit[j], strict=True)) / temperature

    losses, hits = [], []
    for i in kept:
        others = [j for j in kept if j != i]
        partners = [j for j in others if labels[j] == labels[i]]
        if not partners:
            continue
        total = sum(math.exp(similarity(i, j)) for j in others)
        losses.append(-sum(math.log(math.exp(similarity(i, j)) / total) for j in partners) / len(partners))
        nearest = max(others, key=lambda j: similarity(i, j))
        hits.append(labels[nearest] == labels[i])
    return sum(losses) / len(losses), sum(map(float, hits)) / len(hits)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_the_formula(seed, temperature):
    cells = rows(24, 5, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 4, (24,), generator=rng)
    margins = torch.rand(24, generator=rng)
    loss, told = cell_contrast_loss(cells, labels, margins, 0.2, temperature)
    expected = slow_loss(cells, labels, margins, 0.2, temperature)
    assert (loss.item(), told.item()) == pytest.approx(expected, rel=1e-4)


def test_cells_that_are_left_out_get_no_gradient():
    cells = rows(6, 3).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, -1, 0])
    cell_contrast_loss(cells, labels, torch.tensor([1.0, 1, 1, 1, 1, 0.1]), 0.5, 0.1)[0].backward()
    assert torch.isfinite(cells.grad).all()
    assert not cells.grad[4:].any()
    assert cells.grad[:4].abs().sum(1).gt(0).all()


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, -1, -1], [0, -1, 1]])
def test_without_a_pair_the_loss_is_0_and_keeps_the_graph(labels):
    cells = rows(3, 4).requires_grad_()
    loss, told = cell_contrast_loss(cells, torch.tensor(labels), torch.ones(3), 0.0, 0.1)
    assert (loss.item(), told.item()) == (0.0, 0.0)
    loss.backward()
    assert not cells.grad.any()


def test_descent_gathers_the_cells_of_a_label():
    cells, labels = rows(12, 4).requires_grad_(), torch.arange(12) % 3
    optimizer = torch.optim.Adam([cells], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        cell_contrast_loss(cells, labels, torch.ones(12), float("-inf"), 0.1)[0].backward()
        optimizer.step()
    unit = F.normalize(cells.detach(), dim=1)
    same = labels[:, None] == labels
    assert (unit @ unit.T)[same].min() > (unit @ unit.T)[~same].max()
    assert cell_contrast_loss(cells, labels, torch.ones(12), float("-inf"), 0.1)[1] == 1


def test_mixed_precision_does_not_reach_the_cosines():
    cells, labels = rows(20, 8), torch.arange(20) % 4
    plain, _ = cell_contrast_loss(cells, labels, torch.ones(20), 0.0, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = cell_contrast_loss(cells, labels, torch.ones(20), 0.0, 0.1)
    assert torch.equal(plain, mixed)
