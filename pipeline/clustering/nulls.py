"""Points without clusters that are otherwise like given ones: what a clustering of nothing looks like."""

from __future__ import annotations

import numpy as np


def draw_gaussian(points: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw normal points with the mean and covariance of the given ones, between and within images.

    Cells of one image are alike, so that an image counts for less than its number of cells; without that the drawn
    points would be clustered more stably than real ones that have no clusters either.

    Args:
        points: float32 (N, D).
        images: Integer (N,), to which image each belongs: 0 to n - 1, each of them at least once.
        rng: Source of the draw.

    Returns:
        float32 (N, D): a normal vector for each image plus one for each point. Their covariances are estimated by
        the method of moments (one-way analysis of variance, Searle et al. 1992) and together give that of the points.
    """
    count, dimension = points.shape
    mean = points.mean(axis=0, dtype=np.float64)
    centred = points - mean  # (N, D), float64
    total = centred.T @ centred / count
    sizes = np.bincount(images)
    within = np.zeros_like(total)
    if count > len(sizes):
        sums = np.zeros((len(sizes), dimension))
        np.add.at(sums, images, centred)
        rest = centred - (sums / sizes[:, None])[images]
        within = rest.T @ rest / (count - len(sizes))
    of_images = rng.standard_normal((len(sizes), dimension)) @ _root(total - within)
    of_points = rng.standard_normal((count, dimension)) @ _root(within)
    return (mean + of_images[images] + of_points).astype(np.float32)


def permute_columns(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute each feature across the points: every histogram stays, whatever ties the features together goes.

    Args:
        points: float32 (N, D), without zero rows.
        rng: Source of the permutations.

    Returns:
        float32 (N, D), without zero rows: one that would arise keeps its values.
    """
    permuted = rng.permuted(points, axis=0)
    return np.where(permuted.any(axis=1, keepdims=True), permuted, points)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R' R = covariance; negative eigenvalues, which an estimate may have, count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))).T
