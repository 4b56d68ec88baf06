import numpy as np
import pytest

from pipeline.clustering.effective_rank import effective_rank


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_effective_rank_counts_directions(rank):
    points = np.zeros((4000, 8), np.float32)
    points[:, :rank] = np.random.default_rng(0).standard_normal((4000, rank))
    assert effective_rank(3 * points) == pytest.approx(rank, rel=0.01)
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    assert effective_rank((points @ basis).astype(np.float32)) == pytest.approx(rank, rel=0.05)


def test_equal_points_have_rank_1():
    assert effective_rank(np.ones((10, 4), np.float32)) == pytest.approx(1.0)
    assert effective_rank(np.zeros((10, 4), np.float32)) == 1.0


def test_a_constant_with_rounding_errors_has_rank_1():
    points = np.full((4000, 8), 8**-0.5) + 1e-6 * np.random.default_rng(0).standard_normal((4000, 8))
    assert effective_rank(points.astype(np.float32)) == pytest.approx(1.0, abs=1e-3)


def test_uneven_directions_count_less():
    points = np.random.default_rng(0).standard_normal((4000, 2)) * [1.0, 0.01]
    assert 1.0 < effective_rank(points) < 1.1
