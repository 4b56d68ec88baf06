"""Spherical k-means over more points than memory should hold: all restarts step together, in one pass over files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.finished_fits import load_arrays, save_arrays
from pipeline.clustering.kmeans import KMeans, assign, draw_start
from pipeline.clustering.passes import Passes
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.randomness import generator

STATE = "lloyd.npz"
NOISE = 1e-6  # nearer to their centroid than this, points may be equal to it


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
    ranks: Ranks = ALONE,
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
        ranks: The processes that share the passes over the points, chunk by chunk. The first one has the state.

    Returns:
        The best run.
    """
    passes = Passes(points, ranks)
    if not ranks.is_first:
        passes.help()
    best = _fit(passes, k, iterations, restarts, seed, scratch, check_stop) if ranks.is_first else None
    found = passes.end(best)
    assert found is not None
    return found


def _fit(
    passes: Passes,
    k: int,
    iterations: int,
    restarts: int,
    seed: int,
    scratch: Path,
    check_stop: Callable[[], None],
) -> KMeans:
    points = passes.points
    state = _State.load(scratch / STATE)
    if state is None:
        starts = [draw_start(points, k, generator(seed, "k-means", restart)) for restart in range(restarts)]
        none = np.zeros(restarts, bool)
        state = _State(0, np.stack(starts), none, none.astype(np.int64), none.astype(np.float64))
    # a step that fills an empty cluster may empty another, but hardly ever does
    while not state.done.all() and state.step < iterations + k:
        check_stop()
        _step(passes, state, last=state.step >= iterations)
        state.step += 1
        state.save(scratch / STATE)
    check_stop()
    inertia = state.inertia if state.done.all() else _sums(passes, state.centroids)[2]
    best = int(inertia.argmin())
    exact, sizes = 0.0, np.zeros(k, np.int64)
    for of_chunk in passes.over_chunks(state.centroids[best][None], exact=True):
        exact += float(of_chunk.inertia[0])
        sizes += of_chunk.sizes[0]
    return KMeans(state.centroids[best], exact, tuple(inertia.tolist()), sizes, int(state.reseeded[best]))


def _step(passes: Passes, state: _State, *, last: bool) -> None:
    """One Lloyd step of all restarts that still move; a last one moves only those with empty clusters."""
    active = np.flatnonzero(~state.done)
    sums, sizes, state.inertia[active] = _sums(passes, state.centroids[active])
    for restart, totals, counts in zip(active.tolist(), sums, sizes, strict=True):
        old = state.centroids[restart]
        empty = np.flatnonzero(counts == 0)
        if last and not len(empty):
            state.done[restart] = True
            continue
        norms = np.linalg.norm(totals, axis=1, keepdims=True)
        new = np.where(norms > 0, totals / np.where(norms > 0, norms, 1.0), old).astype(np.float32)
        if len(empty):
            farthest = _farthest(passes.points, old, int(counts.argmax()), len(empty))
            new[empty[: len(farthest)]] = farthest
            state.reseeded[restart] += len(farthest)
        state.done[restart] = np.array_equal(new, old)
        state.centroids[restart] = new


def _sums(passes: Passes, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums float64 (R, K, D), sizes int64 (R, K) and inertia float64 (R,) of the clusters by centroids (R, K, D)."""
    R, K, D = centroids.shape
    sums, sizes, inertia = np.zeros((R, K, D)), np.zeros((R, K), np.int64), np.zeros(R)
    for of_chunk in passes.over_chunks(centroids, exact=False):
        sums += of_chunk.sums
        sizes += of_chunk.sizes
        inertia += of_chunk.inertia
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
