"""Over-clustering: many fine clusters are merged into K groups, which keep their fine prototypes."""

from __future__ import annotations

import numpy as np

from pipeline.clustering.kmeans import assign, fit_kmeans

SPECTRAL_RESTARTS = 10
SPECTRAL_ITERATIONS = 50


def ward_groups(centroids: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Merge the two clusters whose union adds the least inertia, until k are left (Ward 1963).

    scipy's linkage takes every row for a single point; here a centroid counts as much as the points it stands for.

    Args:
        centroids: float32 (F, D) of the fine clusters.
        sizes: int64 (F,), their points.
        k: Number of groups K, at most F.

    Returns:
        int64 (F,), the group of each fine cluster in 0..K-1, counted by their first members.
    """
    means, weights = centroids.astype(np.float64), np.maximum(sizes, 1).astype(np.float64)
    groups = np.arange(len(means))
    costs = np.full((len(means), len(means)), np.inf)
    for row in range(len(means)):
        costs[row, :row] = _ward_costs(means[row], weights[row], means[:row], weights[:row])
    for _ in range(len(means) - k):
        gone, kept = np.unravel_index(costs.argmin(), costs.shape)  # kept < gone
        both = weights[kept] + weights[gone]
        means[kept] += (means[gone] - means[kept]) * weights[gone] / both
        weights[kept] = both
        groups[groups == gone] = kept
        costs[gone], costs[:, gone] = np.inf, np.inf
        alive = np.isin(np.arange(len(means)), groups)
        before, after = alive.copy(), alive.copy()
        before[kept:], after[: kept + 1] = False, False
        costs[kept, before] = _ward_costs(means[kept], both, means[before], weights[before])
        costs[after, kept] = _ward_costs(means[kept], both, means[after], weights[after])
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def count_confusion(centroids: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often the pixels of one fine cluster are in another one when they are seen in another view.

    Args:
        centroids: float32 (F, D).
        first: float32 (N, D), embeddings of N spots in one view.
        second: float32 (N, D), of the same spots in the other view.

    Returns:
        int64 (F, F), spots by their cluster in the first (rows) and in the second view.
    """
    F = len(centroids)
    pairs = [assign(rows, centroids, spherical=False).labels.astype(np.int64) for rows in (first, second)]
    return np.bincount(pairs[0] * F + pairs[1], minlength=F * F).reshape(F, F)


def confusion_groups(confusion: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Group fine clusters so that few pixels change their group from view to view.

    Spectral clustering (Ng, Jordan & Weiss 2001) of the counts made symmetric. Unlike there, the diagonal stays: the
    normalised cut is then, up to a constant, the sum over the groups of the share of their pixels that leave.

    Args:
        confusion: int64 (F, F), of `count_confusion`.
        k: Number of groups K, at most F.
        seed: Seed of the k-means on the eigenvectors.

    Returns:
        int64 (F,), the group of each fine cluster in 0..K-1, counted by their first members. There are fewer groups
        only if there are fewer distinct rows of eigenvectors.
    """
    affinity = (confusion + confusion.T + np.eye(len(confusion))).astype(np.float64)  # an unseen cluster is alone
    roots = np.sqrt(affinity.sum(1))
    _, vectors = np.linalg.eigh(affinity / np.outer(roots, roots))
    rows = vectors[:, -k:]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    fit = fit_kmeans(
        rows.astype(np.float32),
        k,
        spherical=False,
        iterations=SPECTRAL_ITERATIONS,
        restarts=SPECTRAL_RESTARTS,
        seed=seed,
    )
    labels = assign(rows.astype(np.float32), fit.centroids, spherical=False).labels
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _ward_costs(mean: np.ndarray, weight: float, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weight * weights / (weight + weights) * np.square(means - mean).sum(1)
