import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pretext.contrast import embedding_std, info_nce, negative_cosine, nt_xent, swap_views


def random_rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def slow_nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020, row by row in float64."""
    rows = [row / np.linalg.norm(row) for row in (*first, *second)]
    n, losses = len(first), []
    for i, row in enumerate(rows):
        partner = (i + n) % (2 * n)
        others = [math.exp(row @ other / temperature) for j, other in enumerate(rows) if j != i]
        losses.append(-math.log(math.exp(row @ rows[partner] / temperature) / sum(others)))
    return sum(losses) / len(losses)


@given(n=st.integers(1, 6), d=st.integers(1, 5), temperature=st.floats(0.05, 2.0), seed=st.integers(0, 1000))
def test_it_is_the_equation(n, d, temperature, seed):
    first, second = random_rows(n, d, seed), random_rows(n, d, seed + 1)
    expected = slow_nt_xent(first.double().numpy(), second.double().numpy(), temperature)
    assert nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_norm_of_the_rows_and_the_order_of_the_views_do_not_matter():
    first, second = random_rows(5, 4), random_rows(5, 4, 1)
    loss = nt_xent(first, second, 0.2)
    torch.testing.assert_close(nt_xent(3 * first, 0.1 * second, 0.2), loss)
    torch.testing.assert_close(nt_xent(second, first, 0.2), loss)


def test_matching_views_cost_less_than_shuffled_ones():
    rows = random_rows(16, 8)
    assert nt_xent(rows, rows, 0.1) < nt_xent(rows, rows.roll(1, 0), 0.1)
    collapsed = torch.ones(16, 8)
    assert nt_xent(collapsed, collapsed, 0.1).item() == pytest.approx(math.log(31), rel=1e-5)


def test_no_rows_are_no_loss_but_keep_the_graph():
    rows = torch.zeros(0, 4, requires_grad=True)
    loss = nt_xent(rows, rows, 0.2)
    assert loss.item() == 0.0
    loss.backward()


def test_mixed_precision_does_not_reach_the_similarities():
    first, second = random_rows(6, 8), random_rows(6, 8, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(first, second, 0.05)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(first, second, 0.05))


@pytest.mark.parametrize("d", [16, 128])
def test_spread_is_1_for_even_embeddings_and_0_for_collapsed_ones(d):
    assert embedding_std(random_rows(2000, d)).item() == pytest.approx(1.0, abs=0.03)
    assert embedding_std(5 * random_rows(2000, d)).item() == pytest.approx(1.0, abs=0.03)
    collapsed = random_rows(1, d).expand(100, d)
    assert embedding_std(collapsed).item() == pytest.approx(0.0, abs=1e-5)
    assert embedding_std(torch.zeros(4, d)).item() == 0.0
    narrow = random_rows(1, d) + 0.1 * random_rows(100, d, 1)
    assert 0.03 < embedding_std(narrow).item() < 0.3
    assert not embedding_std(torch.ones(3, d, requires_grad=True)).requires_grad


def test_info_nce_is_the_cross_entropy_of_the_own_key():
    queries, keys, negatives = (F.normalize(random_rows(n, 4, n + s), dim=1) for n, s in ((3, 0), (3, 1), (5, 2)))
    total = 0.0
    for query, key in zip(queries.double(), keys.double(), strict=True):
        scores = [float(query @ key) / 0.2, *(float(query @ other) / 0.2 for other in negatives.double())]
        total -= scores[0] - math.log(sum(math.exp(score) for score in scores))
    assert info_nce(queries, keys, negatives, 0.2).item() == pytest.approx(total / 3, rel=1e-5)


def test_negative_cosine_moves_the_prediction_only():
    predicted, target = random_rows(3, 4).requires_grad_(), random_rows(3, 4, 1).requires_grad_()
    loss = negative_cosine(predicted, target)
    pairs = zip(predicted.detach(), target.detach(), strict=True)
    by_hand = -sum(float(p @ t / p.norm() / t.norm()) for p, t in pairs) / 3
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert predicted.grad is not None
    assert target.grad is None


def test_views_are_swapped():
    assert swap_views(torch.arange(6)).tolist() == [3, 4, 5, 0, 1, 2]
