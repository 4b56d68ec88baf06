import numpy as np
import pytest
import torch

from pipeline.pretext.vicreg import VicReg, variance_terms
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


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


def test_both_views_are_compared_and_each_is_spread():
    params = settings(method="vicreg", channels=8, projection={"hidden": 8, "width": 6})
    model, batch = sharpened(VicReg(tiny_encoder(), params)), view_batch(4)
    rows = [torch.cat([model.project(pooled(model.encoder.backbone, image)) for image in view]) for view in batch.views]
    invariance = sum((rows[0][image] - rows[1][image]).square().sum() for image in range(4)) / (4 * 6)
    variance, covariance = 0.0, 0.0
    for told in rows:
        for i in range(6):
            variance += torch.relu(1 - torch.sqrt(told[:, i].var() + 1e-4)) / 6 / 2
            for j in range(6):
                if i != j:
                    products = (told[:, i] - told[:, i].mean()) * (told[:, j] - told[:, j].mean())
                    covariance += (products.sum() / 3) ** 2 / 6
    assert_teaches_as(model, model(batch)["method_loss"], 25 * invariance + 25 * variance + covariance)
