import numpy as np
import pytest
import torch

from pipeline.pretext.vicreg import variance_terms


def test_the_terms_are_those_of_the_paper():
    rows = np.random.default_rng(0).standard_normal((2, 6, 4)) * 0.7
    invariance = np.mean((rows[0] - rows[1]) ** 2)
    variance, covariance = 0.0, 0.0
    for part in rows:
        variance += np.mean([max(0.0, 1 - np.sqrt(part[:, d].var(ddof=1) + 1e-4)) for d in range(4)]) / 2
        matrix = np.cov(part.T)
        covariance += sum(matrix[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    found = variance_terms(*torch.from_numpy(rows).float())
    assert found["invariance"].item() == pytest.approx(25 * invariance, rel=1e-4)
    assert found["variance"].item() == pytest.approx(25 * variance, rel=1e-4)
    assert found["covariance"].item() == pytest.approx(covariance, rel=1e-4)


def test_a_collapse_costs_the_variance_term():
    found = variance_terms(torch.ones(4, 3), torch.ones(4, 3))
    assert found["invariance"].item() == found["covariance"].item() == 0.0
    assert found["variance"].item() == pytest.approx(25 * 0.99)
