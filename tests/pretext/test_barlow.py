import numpy as np
import pytest
import torch

from pipeline.pretext.barlow import EPSILON, OFF_DIAGONAL, BarlowTwins, redundancy_loss
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


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


def test_channels_of_one_view_are_correlated_with_those_of_the_other():
    params = settings(method="barlow", channels=8, projection={"hidden": 8, "width": 6})
    model, batch = sharpened(BarlowTwins(tiny_encoder(), params)), view_batch(4)
    rows = []
    for view in batch.views:
        told = torch.cat([model.project(pooled(model.encoder.backbone, image)) for image in view])
        rows.append((told - told.mean(0)) / torch.sqrt(told.var(0, unbiased=False) + EPSILON))
    terms = []
    for i in range(6):
        for j in range(6):
            correlation = sum(rows[0][image, i] * rows[1][image, j] for image in range(4)) / 4
            terms.append((1 - correlation) ** 2 if i == j else OFF_DIAGONAL * correlation**2)
    assert_teaches_as(model, model(batch)["method_loss"], sum(terms) / 6)
