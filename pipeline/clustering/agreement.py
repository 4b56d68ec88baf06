"""How far two labellings of the same things agree, without matching their labels."""

from __future__ import annotations

import numpy as np


def normalised_mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information over the mean of the two entropies (as scikit-learn's default).

    Args:
        first: Integer labels >= 0, any shape.
        second: Integer labels >= 0, same shape.

    Returns:
        0 for independent labellings to 1 for the same up to names; 1 when both have a single label.
    """
    counts = _contingency(first, second)
    joint = counts / counts.sum()
    rows, cols = joint.sum(1), joint.sum(0)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / np.outer(rows, cols)[seen])).sum())
    mean_entropy = (_entropy(rows) + _entropy(cols)) / 2
    return 1.0 if mean_entropy == 0 else max(information / mean_entropy, 0.0)


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pairs that both labellings treat alike, corrected for chance (Hubert and Arabie 1985).

    Args:
        first: Integer labels >= 0, any shape with two values at least.
        second: Integer labels >= 0, same shape.

    Returns:
        1 for the same up to names, 0 on average for independent labellings with these cluster sizes, least -0.5;
        1 when both have a single label, or both only labels of their own.
    """
    counts = _contingency(first, second)
    both, in_first, in_second = _pairs(counts), _pairs(counts.sum(1)), _pairs(counts.sum(0))
    expected = in_first * in_second / _pairs(counts.sum())
    highest = (in_first + in_second) / 2
    return 1.0 if highest == expected else (both - expected) / (highest - expected)


def relative_entropy(counts: np.ndarray) -> float:
    """Entropy of a histogram over the logarithm of its length: 1 when flat, 0 when all falls into one bin."""
    return _entropy(counts / counts.sum()) / float(np.log(len(counts)))


def _contingency(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each label of the first meets each of the second, int64 (labels, labels)."""
    first, second = first.reshape(-1).astype(np.int64), second.reshape(-1).astype(np.int64)
    columns = int(second.max()) + 1
    return np.bincount(first * columns + second, minlength=(int(first.max()) + 1) * columns).reshape(-1, columns)


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
