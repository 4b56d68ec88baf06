"""Pyramid pseudo labels made anew from the embeddings of the segmenter in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from pipeline.clustering.kmeans import assign, fit_kmeans
from pipeline.clustering.sampling import sample_rows
from pipeline.features.pooling import pool_cells
from pipeline.features.standardising import Moments, Standardiser
from pipeline.params import PggParams
from pipeline.runtime.distributed import ALONE, Ranks

NO_LABEL = -1


def pool_embeddings(
    batches: Iterable[tuple[list[int], torch.Tensor]],
    embed: Callable[[torch.Tensor], torch.Tensor],
    levels: Sequence[int],
    images: int,
    *,
    ranks: Ranks = ALONE,
    total: int = 0,
) -> list[np.ndarray]:
    """Average the embeddings of all images over the cells of each level.

    The segmenter's map is pooled whatever map and mode stage `extract` uses: this is the embedding that the guidance
    trains. All cells are held in memory, images x cells x D x 4 bytes.

    Args:
        batches: Indices and uint8 images (B, 3, h, w), each of the images once; of several processes the own ones of
            `total` batches.
        embed: uint8 images to float32 (B, D, h', w').
        levels: Cells a side of each level.
        images: Number of images N.
        ranks: The processes.
        total: Number of batches of all processes; one process need not say it.

    Returns:
        For each level float32 (N, cells^2, D); nothing in processes that only help.
    """

    def pool_own() -> Iterator[tuple[list[int], list[np.ndarray]]]:
        for indices, frames in batches:
            embedding = embed(frames)
            yield indices, [pool_cells(embedding, cells).cpu().numpy() for cells in levels]

    pooled: list[np.ndarray] = []
    for indices, found in ranks.gather_in_turn(pool_own(), total):
        if not pooled:
            pooled = [np.zeros((images, *of_level.shape[1:]), np.float32) for of_level in found]
        for vectors, of_level in zip(pooled, found, strict=True):
            vectors[indices] = of_level
    return pooled


def group_cells(vectors: np.ndarray, k: int, params: PggParams, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the cells of one level as stages `extract` and `cluster` do: centred, unit norm, spherical k-means.

    Args:
        vectors: float32 (N, cells^2, D).
        k: Labels K_l; clipped to half the cells.
        params: Group `pgg`: restarts, iterations, and how many cells are fitted on.
        seed: Determines the sample and the starts.

    Returns:
        Labels int64 and margins float32, both (N, cells^2); a cell that lies on the mean gets label -1, margin 0.

    Raises:
        InputError: There are too few cells, or embeddings that are not finite.
    """
    N, cells, D = vectors.shape
    moments = Moments(D, second=False)
    moments.add(vectors.reshape(-1, D))
    rows = Standardiser.fit(moments, 0)(vectors).reshape(-1, D)
    usable = rows.any(axis=1)
    k = max(2, min(k, int(usable.sum()) // 2))
    chosen = sample_rows(usable.reshape(N, cells).sum(1), k * params.max_points_per_centroid, seed)
    fit = fit_kmeans(
        rows[usable][chosen].astype(np.float32),
        k,
        spherical=True,
        iterations=params.iterations,
        restarts=params.restarts,
        seed=seed,
    )
    found = assign(rows, fit.centroids, spherical=True)
    labels = np.where(usable, found.labels, NO_LABEL).astype(np.int64)
    margins = np.where(usable, found.margin, 0).astype(np.float32)
    return labels.reshape(N, cells), margins.reshape(N, cells)


def rename_labels(new: np.ndarray, old: np.ndarray, k: int) -> np.ndarray:
    """Give new labels the names of the old ones that they share most cells with (Hungarian, one to one).

    So row j of a head, and what its optimiser remembers, keep their meaning.

    Args:
        new: Integer labels below k, -1 for none; any shape.
        old: The same cells' former labels.
        k: Number of labels.

    Returns:
        int64, `new` under a permutation of 0..k-1.
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second, and few trainings need it

    known = (new >= 0) & (old >= 0)
    shared = np.bincount(new[known].astype(np.int64) * k + old[known], minlength=k * k).reshape(k, k)
    _, names = linear_sum_assignment(shared, maximize=True)
    return np.where(new >= 0, names[new], NO_LABEL).astype(np.int64)
