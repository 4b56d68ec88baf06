import numpy as np
import pytest
import torch

from pipeline.segmentation.strata import StratifiedSample

EMBEDDING = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
STRATA = torch.randint(-1, 2, (4, 5, 6), generator=torch.Generator().manual_seed(1))
STRATA[2, 0, :4] = 2  # a rare one


def collect(total, batches, strata=STRATA):
    sample = StratifiedSample(total, 3, 0, "test", 7)
    for batch in batches:
        sample.add(batch, EMBEDDING[batch], strata[batch])
    return sample


def test_every_stratum_has_its_share_and_a_rare_one_gives_all():
    sample = collect(30, [[0, 1], [2, 3]])
    assert np.bincount(sample.strata()).tolist() == [10, 10, 4]
    places = {tuple(row.tolist()): int(label) for row, label in
              zip(EMBEDDING.permute(0, 2, 3, 1).reshape(-1, 3), STRATA.flatten(), strict=True)}  # fmt: skip
    assert [places[tuple(row)] for row in sample.points().tolist()] == sample.strata().tolist()
    assert len({tuple(row) for row in sample.points().tolist()}) == 24
    assert sample.points().dtype == np.float32


@pytest.mark.parametrize("batches", [[[3, 0], [1, 2]], [[3, 2, 1, 0]], [[2], [0], [3], [1]]])
def test_the_order_of_the_images_does_not_matter(batches):
    np.testing.assert_array_equal(collect(30, batches).points(), collect(30, [[0, 1], [2, 3]]).points())


def test_all_pixels_are_as_likely():
    strata = torch.zeros(4, 5, 6, dtype=torch.int64)
    hits = np.zeros(120)
    index = {tuple(row.tolist()): i for i, row in enumerate(EMBEDDING.permute(0, 2, 3, 1).reshape(-1, 3))}
    for epoch in range(300):
        sample = StratifiedSample(12, 1, 0, "test", epoch)
        sample.add([0, 1, 2, 3], EMBEDDING, strata)
        for row in sample.points().tolist():
            hits[index[tuple(row)]] += 1
    assert hits.sum() == 3600
    assert hits.min() > 10
    assert hits.max() < 55


def test_without_any_stratum_nothing_is_taken():
    sample = collect(30, [[0, 1, 2, 3]], torch.full((4, 5, 6), -1))
    assert sample.points().shape == (0, 3)
