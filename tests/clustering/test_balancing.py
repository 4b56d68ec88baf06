import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clustering.balancing import balanced_codes


def random_scores(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) / 4


def sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SwAV's listing, loop by loop."""
    codes = np.exp(scores.astype(np.float64) / epsilon)
    n, k = codes.shape
    codes /= codes.sum()
    for _ in range(iterations):
        for column in range(k):
            codes[:, column] /= codes[:, column].sum() * k
        for row in range(n):
            codes[row] /= codes[row].sum() * n
    return codes * n


@given(
    n=st.integers(1, 12),
    k=st.integers(2, 6),
    seed=st.integers(0, 1000),
    epsilon=st.sampled_from([0.05, 0.2, 1.0]),
    iterations=st.integers(1, 5),
)
def test_the_codes_are_those_of_the_plain_algorithm(n, k, seed, epsilon, iterations):
    scores = random_scores(n, k, seed)
    codes = balanced_codes(scores, epsilon=epsilon, iterations=iterations).exp()
    np.testing.assert_allclose(codes.numpy(), sinkhorn(scores.numpy(), epsilon, iterations), atol=1e-4)


def test_every_cluster_gets_an_even_share():
    scores = random_scores(512, 4)
    scores[:, 0] += 3.0  # nearest to nearly all rows
    assert (scores.argmax(1) == 0).float().mean() > 0.95
    shares = balanced_codes(scores, epsilon=0.05, iterations=3).exp().mean(0)
    assert (shares - 0.25).abs().max() < 0.1


@pytest.mark.parametrize("gap", [10.0, 1000.0])
def test_a_cluster_that_is_far_from_all_rows_gives_no_nan(gap):
    scores = random_scores(16, 3)
    scores[:, 2] -= gap
    codes = balanced_codes(scores, epsilon=0.01, iterations=3)
    assert codes.isfinite().all()
    assert math.isclose(codes.exp().sum().item(), 16, rel_tol=1e-3)
