"""Spherical k-means over more points than memory should hold: all restarts step together, in one pass over files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.clustering.finished_fits import load_arrays, save_arrays
from pipeline.clustering.kmeans import CHUNK, KMeans, assign, draw_start
from pipeline.features.raw_shards import RawShards
from pipeline.runtime.randomness import generator

STATE = "lloyd.npz"
NOISE = 1e-6  # nearer to their centroid than this, points may be equal to it


class FilePoints:
    """Points in files, mapped when they are read, so that they are no memory of the process.

    Attributes:
        count: Number of points N.
        dimension: D.
    """

    def __init__(self, folder: Path, parts: Iterable[np.ndarray]) -> None:
        """Write the points, one file a part.

        Args:
            folder: For the files; the caller removes it.
            parts: float32 (n, D), of any norm but zero.
        """
        self._shards, self._ends = RawShards(folder), [0]
        self.dimension = 0
        for number, part in enumerate(parts):
            self._shards.save(number, part / np.linalg.norm(part, axis=1, keepdims=True))
            self._ends.append(self._ends[-1] + len(part))
            self.dimension = part.shape[1]
        self.count = self._ends[-1]

    def __len__(self) -> int:
        """Number of points."""
        return self.count

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Some points by ascending number, of unit norm, float32 (n, D)."""
        ends = np.searchsorted(rows, self._ends)
        found = [
            self._shards.load(part)[rows[first:end] - self._ends[part]]
            for part, (first, end) in enumerate(pairwise(ends))
        ]
        return np.concatenate(found)

    def chunks(self) -> Iterator[np.ndarray]:
        """All points in order, float32 (n, D), unit norm, a few thousand at a time; no chunk spans two files."""
        for part in range(len(self._ends) - 1):
            points = self._shards.load(part)
            for first in range(0, len(points), CHUNK):
                yield np.asarray(points[first : first + CHUNK])


@dataclass
class _State:
    """The restarts after some Lloyd steps; R of them, all that the next step depends on."""

    step: int
    centroids: np.ndarray  # float32 (R, K, D)
    done: np.ndarray  # bool (R,)
    reseeded: np.ndarray  # int64 (R,)
    inertia: (
        np.ndarray
    )  # float64 (R,), by the centroids before the last step, which moved none of a restart that is done

    def save(self, path: Path) -> None:
        save_arrays(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> _State | None:
        if (held := load_arrays(path)) is None:
            return None
        return cls(int(held["step"]), *(held[name] for name in ("centroids", "done", "reseeded", "inertia")))


def fit_sharded(
    points: FilePoints,
    k: int,
    *,
    iterations: int,
    restarts: int,
    seed: int,
    scratch: Path,
    check_stop: Callable[[], None],
) -> KMeans:
    """Cluster directions as `fit_kmeans` does, from the same starts, in memory that does not grow with the points.

    Sums of a few thousand points are float32, those over chunks and files float64 in their order, so that the result
    depends on nothing but the points. A cluster that becomes empty is started anew at the points that are farthest in
    the largest cluster.

    Args:
        points: At least k.
        k: Number of clusters K.
        iterations: Lloyd steps of each restart; a restart that stands still ends earlier.
        restarts: Runs from different starts; the lowest inertia is kept.
        seed: With the number of the restart it determines the start.
        scratch: Folder for the state after each step; an interrupted fit of the same points goes on from there.
        check_stop: Raises to interrupt; called before each step.

    Returns:
        The best run.
    """
    state = _State.load(scratch / STATE)
    if state is None:
        starts = [draw_start(points, k, generator(seed, "k-means", restart)) for restart in range(restarts)]
        none = np.zeros(restarts, bool)
        state = _State(0, np.stack(starts), none, none.astype(np.int64), none.astype(np.float64))
    # a step that fills an empty cluster may empty another, but hardly ever does
    while not state.done.all() and state.step < iterations + k:
        check_stop()
        _step(points, state, last=state.step >= iterations)
        state.step += 1
        state.save(scratch / STATE)
    check_stop()
    inertia = state.inertia if state.done.all() else _sums(points, state.centroids)[2]
    best = int(inertia.argmin())
    exact, sizes = 0.0, np.zeros(k, np.int64)
    for chunk in points.chunks():
        found = assign(chunk, state.centroids[best], spherical=True)
        exact += float(found.distance.sum(dtype=np.float64))
        sizes += np.bincount(found.labels, minlength=k)
    return KMeans(state.centroids[best], exact, tuple(inertia.tolist()), sizes, int(state.reseeded[best]))


def _step(points: FilePoints, state: _State, *, last: bool) -> None:
    """One Lloyd step of all restarts that still move; a last one moves only those with empty clusters."""
    active = np.flatnonzero(~state.done)
    sums, sizes, state.inertia[active] = _sums(points, state.centroids[active])
    for restart, totals, counts in zip(active.tolist(), sums, sizes, strict=True):
        old = state.centroids[restart]
        empty = np.flatnonzero(counts == 0)
        if last and not len(empty):
            state.done[restart] = True
            continue
        norms = np.linalg.norm(totals, axis=1, keepdims=True)
        new = np.where(norms > 0, totals / np.where(norms > 0, norms, 1.0), old).astype(np.float32)
        if len(empty):
            farthest = _farthest(points, old, int(counts.argmax()), len(empty))
            new[empty[: len(farthest)]] = farthest
            state.reseeded[restart] += len(farthest)
        state.done[restart] = np.array_equal(new, old)
        state.centroids[restart] = new


def _sums(points: FilePoints, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums float64 (R, K, D), sizes int64 (R, K) and inertia float64 (R,) of the clusters by centroids (R, K, D)."""
    R, K, D = centroids.shape
    table = np.ascontiguousarray(centroids.reshape(R * K, D).T)
    sums, sizes, inertia = np.zeros((R, K, D)), np.zeros((R, K), np.int64), np.zeros(R)
    for chunk in points.chunks():
        cosines = chunk @ table  # (n, R * K)
        each = np.arange(len(chunk))
        for restart in range(R):
            own = cosines[:, restart * K : (restart + 1) * K]
            labels = own.argmax(axis=1)
            inertia[restart] += len(chunk) - own[each, labels].sum(dtype=np.float64)
            sizes[restart] += np.bincount(labels, minlength=K)
            members = np.zeros((len(chunk), K), np.float32)
            members[each, labels] = 1.0
            sums[restart] += members.T @ chunk  # far faster than adding row by row
    return sums, sizes, inertia


def _farthest(points: FilePoints, centroids: np.ndarray, cluster: int, wanted: int) -> np.ndarray:
    """The points of a cluster that are farthest from its centroid, float32 (at most wanted, D)."""
    rows, distances = np.zeros((0, points.dimension), np.float32), np.zeros(0, np.float32)
    for chunk in points.chunks():
        found = assign(chunk, centroids, spherical=True)
        here = np.flatnonzero((found.labels == cluster) & (found.distance > NOISE))
        distances = np.concatenate([distances, found.distance[here]])
        chosen = np.argsort(-distances, kind="stable")[:wanted]
        rows, distances = np.concatenate([rows, chunk[here]])[chosen], distances[chosen]
    return rows
