import numpy as np
import pytest

from pipeline.clustering.nulls import draw_gaussian, permute_columns

D = 3


def grouped(rng: np.random.Generator, images: int = 4000, cells: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Uniform points: one part per image, of one covariance, and one part per point, of another."""
    of_images = rng.uniform(-1, 1, (images, D)) @ np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0.5]])
    of_points = rng.uniform(-1, 1, (images * cells, D)) @ np.array([[1, 0, 0], [0, 1, 2], [0, 0, 1]])
    number = np.repeat(np.arange(images), cells)
    return (of_images[number] + of_points + [5, 0, -5]).astype(np.float32), number


def test_normal_points_keep_mean_and_covariance_between_and_within_images() -> None:
    points, images = grouped(np.random.default_rng(0))
    drawn = draw_gaussian(points, images, np.random.default_rng(1))
    assert drawn.dtype == np.float32
    for rows in (points, drawn):
        np.testing.assert_allclose(rows.mean(axis=0), points.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(points.T), atol=0.1)
    # the covariance of two cells of one image is that of what they share
    shared = [np.cov(rows[::4].T, rows[1::4].T)[:D, D:] for rows in (points, drawn)]
    np.testing.assert_allclose(shared[1], shared[0], atol=0.12)
    assert np.abs(shared[0]).max() > 1


def test_normal_points_are_normal() -> None:
    points, images = grouped(np.random.default_rng(0))
    drawn = draw_gaussian(points, images, np.random.default_rng(1))
    kurtosis = [((rows - rows.mean(0)) ** 4).mean(0) / rows.var(0) ** 2 for rows in (points, drawn)]
    assert kurtosis[0].max() < 2.7
    np.testing.assert_allclose(kurtosis[1], 3, atol=0.15)


@pytest.mark.parametrize("cells", [1, 2])
def test_few_cells_per_image_give_the_same_covariance(cells: int) -> None:
    points, images = grouped(np.random.default_rng(0), cells=cells)
    drawn = draw_gaussian(points, images, np.random.default_rng(1))
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(points.T), atol=0.15)


def test_permuting_keeps_histograms_and_breaks_ties() -> None:
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(2000, 1)), D, axis=1).astype(np.float32)
    permuted = permute_columns(points, rng)
    np.testing.assert_array_equal(np.sort(permuted, axis=0), np.sort(points, axis=0))
    assert np.abs(np.corrcoef(permuted.T) - np.eye(D)).max() < 0.1


def test_no_zero_row_arises_by_permuting() -> None:
    points = np.eye(4, dtype=np.float32)
    for seed in range(20):
        assert permute_columns(points, np.random.default_rng(seed)).any(axis=1).all()
