"""How far clusters and classes are the same partition of the pixels: figures that need no matching."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError


def normalised_mutual_information(matrix: NDArray[np.integer]) -> float:
    """Compute the mutual information of classes and clusters over the arithmetic mean of their entropies.

    It grows with the number of clusters even where they are random, which `adjusted_rand_index` does not.

    Args:
        matrix: counts of shape (C, K), integers >= 0, with a sum below 2^63.

    Returns:
        A number in [0, 1]; 1 when the partitions are the same, also when both have one part only.

    Raises:
        InputError: when the matrix holds no pixel.
        ValueError: when it is not one of counts.

    Source: Strehl and Ghosh 2002; normalised as in `sklearn.metrics.normalized_mutual_info_score`.
    """
    counts, classes, clusters = _checked(matrix)
    total = int(classes.sum())
    class_entropy, cluster_entropy = _entropy(classes, total), _entropy(clusters, total)
    if class_entropy == cluster_entropy == 0:
        return 1.0
    rows, columns = counts.nonzero()
    joint = counts[rows, columns]
    # each logarithm for itself: a product of two marginals would not fit 64 bits
    gains = np.log(joint) + math.log(total) - np.log(classes[rows]) - np.log(clusters[columns])
    information = float((joint / total * gains).sum())
    # rounding may leave the range by one unit in the last place
    return min(max(2 * information / (class_entropy + cluster_entropy), 0.0), 1.0)


def adjusted_rand_index(matrix: NDArray[np.integer]) -> float:
    """Compute the share of pixel pairs on which classes and clusters agree, corrected for chance.

    Pairs are counted in integers of any size, so that the result is exact up to its last division.

    Args:
        matrix: counts of shape (C, K), integers >= 0, with a sum below 2^63.

    Returns:
        At most 1, for equal partitions; 0 in the mean over random ones, and it may be below 0.

    Raises:
        InputError: when the matrix holds no pixel.
        ValueError: when it is not one of counts.

    Source: Hubert and Arabie 1985, equation 5.
    """
    counts, classes, clusters = _checked(matrix)
    together, in_classes, in_clusters = (_pairs(part[part > 0]) for part in (counts, classes, clusters))
    pairs = math.comb(int(classes.sum()), 2)
    reach = (in_classes + in_clusters) * pairs - 2 * in_classes * in_clusters
    if reach == 0:  # both put all pixels together, or every pixel apart
        return 1.0
    return 2 * (together * pairs - in_classes * in_clusters) / reach


def _pairs(sizes: NDArray[np.int64]) -> int:
    return sum(math.comb(size, 2) for size in sizes.tolist())


def _entropy(sizes: NDArray[np.int64], total: int) -> float:
    shares = sizes[sizes > 0] / total
    return float(-(shares * np.log(shares)).sum()) if len(shares) > 1 else 0.0


def _checked(matrix: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The counts, and their sums per class and per cluster."""
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"expected a (C, K) matrix of counts, not {counts.dtype} of shape {counts.shape}")
    if not counts.any():
        raise InputError("nothing to evaluate: the confusion matrix holds no pixel; check the masks")
    counts = counts.astype(np.int64)
    return counts, counts.sum(axis=1), counts.sum(axis=0)
