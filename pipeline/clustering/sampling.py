"""Draws the cells that a clustering is fitted on, the same share of every image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from pipeline.features.shards import Shard, iterate_level
from pipeline.runtime.artifacts import Artifact
from pipeline.runtime.randomness import generator


def count_cells(features: Artifact, image_ids: Collection[str], level: int) -> list[int]:
    """How many cells of each image have a direction, that is, are not zero.

    Args:
        features: The opened folder `data/features`.
        image_ids: The images to look at; others are skipped.
        level: Cells a side.

    Returns:
        One number per image, in the order of the shards.

    Raises:
        InputError: A shard cannot be used.
    """
    counts: list[int] = []
    for shard in iterate_level(features, level):
        counts += shard.vectors[_used(shard, image_ids)].any(axis=2).sum(axis=1).tolist()
    return counts


def gather_cells(features: Artifact, image_ids: Collection[str], level: int, chosen: np.ndarray) -> np.ndarray:
    """Read some of the cells that `count_cells` counts at once, float32 (len(chosen), D); see `iterate_cells`."""
    return np.concatenate(list(iterate_cells(features, image_ids, level, chosen)))


def iterate_cells(
    features: Artifact, image_ids: Collection[str], level: int, chosen: np.ndarray
) -> Iterator[np.ndarray]:
    """Read some of the cells that `count_cells` counts, a shard at a time.

    Args:
        features: The opened folder `data/features`.
        image_ids: The images to look at; others are skipped.
        level: Cells a side.
        chosen: Ascending numbers of cells; those that are counted are numbered one after the other.

    Yields:
        float32 (n, D), the chosen cells of a shard.

    Raises:
        InputError: A shard cannot be used.
    """
    first = 0
    for shard in iterate_level(features, level):
        vectors = shard.vectors[_used(shard, image_ids)].reshape(-1, shard.vectors.shape[2])
        vectors = vectors[vectors.any(axis=1)]
        here = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + len(vectors))]
        yield vectors[here - first].astype(np.float32)
        first += len(vectors)


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


def _used(shard: Shard, image_ids: Collection[str]) -> list[bool]:
    return [image_id in image_ids for image_id in shard.image_ids]
