import math

import pytest
import torch

from pipeline.segmentation.cell_prior import CellPrior


def drawn(*shape: int, high: int, seed: int = 0, low: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def test_the_prior_is_the_smoothed_share_of_each_cluster():
    prior = CellPrior([3, 2], 4)
    batches = [([drawn(30, high=3, low=-1, seed=s), drawn(30, high=2, seed=s + 1)], drawn(30, high=4, seed=s + 2))
               for s in (0, 10)]  # fmt: skip
    for labels, assigned in batches:
        prior.add(labels, assigned)
    asked = [drawn(2, 3, 5, high=3, low=-1, seed=5), drawn(2, 3, 5, high=2, seed=6)]
    found = prior.log_prior(asked)
    assert found.shape == (2, 4, 3, 5)
    for b in range(2):
        for y in range(3):
            for x in range(5):
                for k in range(4):
                    expected = 0.0
                    for level in range(2):
                        label, hits, total = int(asked[level][b, y, x]), 0, 0
                        for labels, assigned in batches:
                            for one, cluster in zip(labels[level].tolist(), assigned.tolist(), strict=True):
                                total += one == label
                                hits += one == label and cluster == k
                        share = 1 / 4 if label < 0 else (hits + 1) / (total + 4)
                        expected += math.log(share) / 2
                    assert found[b, k, y, x].item() == pytest.approx(expected, rel=1e-5)


def test_without_counts_the_prior_is_flat():
    prior = CellPrior([3], 5)
    prior.add([torch.tensor([0, 1])], torch.tensor([2, 2]))
    prior.clear()
    found = prior.log_prior([torch.tensor([[[0, 1, 2, -1]]])])
    torch.testing.assert_close(found, torch.full((1, 5, 1, 4), math.log(1 / 5)))
