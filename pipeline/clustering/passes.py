"""Passes over points in files, which several processes can share chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.kmeans import KMeans, assign
from pipeline.runtime.distributed import Ranks


class Partial(NamedTuple):
    """What one chunk gives for centroids (R, K, D).

    Attributes:
        sums: float32 (R, K, D), of the points of each cluster; empty if they were not asked for.
        sizes: int64 (R, K).
        inertia: float64 (R,).
    """

    sums: np.ndarray
    sizes: np.ndarray
    inertia: np.ndarray


class Passes:
    """Passes over the points; processes share them, and the first one gets the results in the order of the chunks."""

    def __init__(self, points: FilePoints, ranks: Ranks) -> None:
        self.points, self._ranks = points, ranks

    def over_chunks(self, centroids: np.ndarray, *, exact: bool) -> Iterator[Partial]:
        """What all chunks give; `exact` takes the distances of `assign`, and no sums."""
        self._ranks.broadcast((centroids, exact))
        return self._share(centroids, exact)

    def help(self) -> None:
        """Do the own part of all passes that the first process begins, until it calls `end`."""
        while (asked := self._ranks.broadcast(None)) is not None:
            for _ in self._share(*asked):
                pass

    def end(self, best: KMeans | None) -> KMeans | None:
        """Let the others go on too, with the result."""
        if self._ranks.is_first:
            self._ranks.broadcast(None)
        return self._ranks.broadcast(best)

    def _share(self, centroids: np.ndarray, exact: bool) -> Iterator[Partial]:
        ranks, chunks = self._ranks, self.points.chunks()
        if exact:
            own = (_assign_chunk(chunk, centroids) for chunk in islice(chunks, ranks.rank, None, ranks.world))
        else:
            table = np.ascontiguousarray(centroids.reshape(-1, centroids.shape[2]).T)
            own = (_sum_chunk(chunk, centroids, table) for chunk in islice(chunks, ranks.rank, None, ranks.world))
        yield from ranks.gather_in_turn(own, self.points.chunk_count)


def _assign_chunk(chunk: np.ndarray, centroids: np.ndarray) -> Partial:
    found = assign(chunk, centroids[0], spherical=True)
    sizes = np.bincount(found.labels, minlength=centroids.shape[1])
    return Partial(np.empty(0, np.float32), sizes[None], found.distance.sum(dtype=np.float64)[None])


def _sum_chunk(chunk: np.ndarray, centroids: np.ndarray, table: np.ndarray) -> Partial:
    R, K, D = centroids.shape
    cosines = chunk @ table  # (n, R * K)
    each = np.arange(len(chunk))
    partial = Partial(np.empty((R, K, D), np.float32), np.empty((R, K), np.int64), np.empty(R))
    for restart in range(R):
        own = cosines[:, restart * K : (restart + 1) * K]
        labels = own.argmax(axis=1)
        partial.inertia[restart] = len(chunk) - own[each, labels].sum(dtype=np.float64)
        partial.sizes[restart] = np.bincount(labels, minlength=K)
        members = np.zeros((len(chunk), K), np.float32)
        members[each, labels] = 1.0
        partial.sums[restart] = members.T @ chunk  # far faster than adding row by row
    return partial
