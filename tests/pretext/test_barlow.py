import numpy as np
import pytest
import torch

from pipeline.pretext.barlow import EPSILON, OFF_DIAGONAL, redundancy_loss


def test_the_loss_is_the_distance_of_the_correlations_from_the_identity():
    rows = np.random.default_rng(0).standard_normal((2, 6, 4))
    first, second = ((part - part.mean(0)) / np.sqrt(part.var(0) + EPSILON) for part in rows)
    total = 0.0
    for i in range(4):
        for j in range(4):
            correlation = sum(first[n, i] * second[n, j] for n in range(6)) / 6
            total += (1 - correlation) ** 2 if i == j else OFF_DIAGONAL * correlation**2
    found = redundancy_loss(*torch.from_numpy(rows).float())
    assert found.item() == pytest.approx(total / 4, rel=1e-4)


def test_equal_views_of_independent_channels_cost_nothing():
    rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert redundancy_loss(rows, rows).item() == pytest.approx(0.0, abs=1e-8)
    assert redundancy_loss(rows, -rows).item() == pytest.approx(4.0, rel=1e-3)
    assert redundancy_loss(torch.zeros(4, 2), torch.zeros(4, 2)).item() == pytest.approx(1.0)  # collapsed
