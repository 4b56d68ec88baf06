import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import AssignmentParams
from pipeline.segmentation.assignment import balanced_codes, choose_labels


def settings(method: str) -> AssignmentParams:
    return AssignmentParams(method=method, epsilon=0.05, iterations=3, teacher_momentum=0.0)


def random_scores(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SwAV's listing, loop by loop, on (pixels, K)."""
    codes = np.exp(scores.astype(np.float64) / epsilon)
    pixels, k = codes.shape
    codes /= codes.sum()
    for _ in range(iterations):
        for column in range(k):
            codes[:, column] /= codes[:, column].sum() * k
        for row in range(pixels):
            codes[row] /= codes[row].sum() * pixels
    return codes * pixels


@given(
    k=st.integers(2, 6),
    seed=st.integers(0, 1000),
    epsilon=st.sampled_from([0.05, 0.2, 1.0]),
    iterations=st.integers(1, 5),
)
def test_the_codes_are_those_of_the_plain_algorithm(k, seed, epsilon, iterations):
    scores = random_scores(2, k, 3, 4, seed=seed)
    codes = balanced_codes(scores, epsilon=epsilon, iterations=iterations).exp()
    expected = sinkhorn(scores.permute(0, 2, 3, 1).reshape(-1, k).numpy(), epsilon, iterations)
    np.testing.assert_allclose(codes.permute(0, 2, 3, 1).reshape(-1, k).numpy(), expected, atol=1e-4)


def test_every_cluster_gets_an_even_share():
    scores = random_scores(2, 4, 16, 16)
    scores[:, 0] += 3.0  # nearest to nearly all pixels
    nearest = choose_labels(scores, settings("nearest"))
    balanced = choose_labels(scores, settings("balanced"))
    assert balanced.dtype == torch.int64
    assert balanced.shape == nearest.shape == (2, 16, 16)
    assert (nearest == 0).float().mean() > 0.95
    shares = torch.bincount(balanced.flatten(), minlength=4) / balanced.numel()
    assert (shares - 0.25).abs().max() < 0.1


def test_balanced_labels_keep_what_is_clear():
    labels = torch.arange(64).reshape(1, 8, 8) % 4
    scores = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert torch.equal(choose_labels(scores, settings("balanced")), labels)


@pytest.mark.parametrize("gap", [10.0, 1000.0])
def test_a_prototype_that_is_far_from_all_pixels_gives_no_nan(gap):
    scores = random_scores(1, 3, 4, 4)
    scores[:, 2] -= gap
    codes = balanced_codes(scores, epsilon=0.01, iterations=3)
    assert codes.isfinite().all()
    assert codes.exp().sum(1).sub(1).abs().max() < 1e-3
    assert math.isclose(codes.exp().sum().item(), 16, rel_tol=1e-3)
