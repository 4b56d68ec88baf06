"""How far two labellings of the same things agree, without matching their labels."""

from __future__ import annotations

import numpy as np

from pipeline.clustering import partition


def normalised_mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information over the mean of the two entropies (as scikit-learn's default).

    Args:
        first: Integer labels >= 0, any shape.
        second: Integer labels >= 0, same shape.

    Returns:
        0 for independent labellings to 1 for the same up to names; 1 when both have a single label.
    """
    return partition.normalised_mutual_information(_contingency(first, second))


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pairs that both labellings treat alike, corrected for chance (Hubert and Arabie 1985).

    Args:
        first: Integer labels >= 0, any shape with two values at least.
        second: Integer labels >= 0, same shape.

    Returns:
        1 for the same up to names, 0 on average for independent labellings with these cluster sizes, least -0.5;
        1 when both have a single label, or both only labels of their own.
    """
    return partition.adjusted_rand_index(_contingency(first, second))


def relative_entropy(counts: np.ndarray) -> float:
    """Entropy of a histogram over the logarithm of its length: 1 when flat, 0 when all falls into one bin."""
    return _entropy(counts / counts.sum()) / float(np.log(len(counts)))


def _contingency(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each label of the first meets each of the second, int64 (labels, labels)."""
    first, second = first.reshape(-1).astype(np.int64), second.reshape(-1).astype(np.int64)
    columns = int(second.max()) + 1
    return np.bincount(first * columns + second, minlength=(int(first.max()) + 1) * columns).reshape(-1, columns)


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
