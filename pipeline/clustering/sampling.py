"""Draws the cells that a clustering is fitted on, the same share of every image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.runtime.randomness import generator


def sample_rows(counts_per_image: Sequence[int] | np.ndarray, total: int, seed: int) -> np.ndarray:
    """Draw rows at random, from each image the same share to within one row.

    Args:
        counts_per_image: Rows of each image; the rows of all images are numbered one after the other.
        total: How many to draw; all if there are no more.
        seed: Determines the draw.

    Returns:
        int64, ascending numbers of rows without repetition, min(total, all rows) of them.
    """
    counts = np.asarray(counts_per_image, dtype=np.int64)
    ends = np.cumsum(counts)
    everything = int(counts.sum())
    if total >= everything:
        return np.arange(everything)
    rng = generator(seed, "sample rows")
    # rounding the running total leaves each image within one row of its share, and the sum exact
    quotas = np.diff((ends * total + rng.integers(everything)) // everything, prepend=0)
    chosen = [
        end - count + rng.choice(count, quota, replace=False)
        for end, count, quota in zip(ends.tolist(), counts.tolist(), quotas.tolist(), strict=True)
        if quota
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
