"""k-means on faiss: seeded, with good starts, several restarts and no lost clusters."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import faiss
import numpy as np

from pipeline.clustering.gpu import place_index, uses_gpu
from pipeline.errors import InputError
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.randomness import generator

# Starts are drawn from this many rows per cluster. On mixtures of 30 unequal clusters in 128 dimensions greedy
# k-means++ on so few rows ends 10 to 20 % lower than faiss' random rows, and as low as on all rows, at no cost.
START_ROWS = 128
CHUNK = 8192  # rows whose distances to all centroids are held at once
ROWS = 512  # the same in float64, which then stays in the processor's cache


@dataclass(frozen=True)
class KMeans:
    """A fitted clustering.

    Attributes:
        centroids: float32 (K, D); unit rows if spherical.
        inertia: Sum over the points of their distance as `assign` defines it, of the best restart.
        restart_inertia: The same of every restart, in order.
        sizes: int64 (K,), points of each cluster. A zero stands only where there were fewer than K distinct points.
        reseeded: Clusters of the best restart that had ended empty and were started anew.
    """

    centroids: np.ndarray
    inertia: float
    restart_inertia: tuple[float, ...]
    sizes: np.ndarray
    reseeded: int


Once = Callable[[int, Callable[[], KMeans]], KMeans]  # gives the fit of a restart, and may know it already


class Assignment(NamedTuple):
    """Where points belong: cluster int32 (N,), distance float32 (N,), and how much farther the next cluster is."""

    labels: np.ndarray
    distance: np.ndarray
    margin: np.ndarray


def use_threads(count: int) -> None:
    """Set the number of CPU threads of faiss in the calling thread: `fit_kmeans` runs that many restarts at once."""
    faiss.omp_set_num_threads(count)


def fit_kmeans(
    points: np.ndarray,
    k: int,
    *,
    spherical: bool,
    iterations: int,
    restarts: int,
    seed: int,
    start: np.ndarray | None = None,
    once: Once = lambda _, fit: fit(),
    ranks: Ranks = ALONE,
) -> KMeans:
    """Cluster points by Lloyd's algorithm from greedy k-means++ starts (Arthur and Vassilvitskii 2007).

    A cluster that ends empty is started anew at the farthest point of the largest cluster. If there are fewer
    than k distinct points, each of them becomes a centroid, in ascending order, and the remaining centroids repeat
    them; the repeated ones stay empty.

    Args:
        points: float32 (N, D), finite; all rows are used.
        k: Number of clusters K, 1 to N.
        spherical: Cluster directions: rows are brought to unit norm (zero rows are refused), and so are centroids.
        iterations: Lloyd iterations.
        restarts: Runs from different starts; the lowest inertia is kept, the first among equals.
        seed: With the number of the restart it determines the start.
        start: Centroids (K, D) from which the first restart starts instead.
        once: Is given the number of each restart and a function that fits it, such as `FinishedRestarts.once`; called
            in threads.
        ranks: The processes that share the restarts; all have all points, and all get the best run.

    Returns:
        The best run.

    Raises:
        InputError: There are fewer points than clusters, or points that are not finite, or zero rows if spherical.
    """
    points = _checked(points, k, spherical)

    def run(restart: int) -> KMeans:
        rng = generator(seed, "k-means", restart)
        initial = start if start is not None and restart == 0 else draw_start(points, k, rng)
        centroids = _lloyd(points, initial, iterations, spherical, int(rng.integers(2**31 - 1)))
        return _without_empty(points, centroids, spherical)

    # restarts side by side, each on one thread: threads that share one restart wait for each other after every
    # step, which on a busy machine took ten times as long, and gained nothing on two idle cores; a GPU takes one
    pool = ThreadPoolExecutor(1 if uses_gpu() else faiss.omp_get_max_threads(), initializer=partial(use_threads, 1))
    own = ranks.own(range(restarts))
    try:
        runs = list(ranks.gather_in_turn(pool.map(lambda restart: once(restart, partial(run, restart)), own), restarts))
    finally:
        pool.shutdown(cancel_futures=True)
    # `runs` is empty in processes that only help
    best = ranks.broadcast(min(runs, key=lambda run: run.inertia, default=None))
    assert best is not None
    return replace(best, restart_inertia=ranks.broadcast(tuple(run.inertia for run in runs)))


def assign(points: np.ndarray, centroids: np.ndarray, *, spherical: bool) -> Assignment:
    """Find the nearest centroid of each point; of equally near ones the first.

    Distances are computed in float64 and compared in float32, so that neither the number of rows in a call nor
    the order of equal centroids shows in the labels.

    Args:
        points: float16 or float32 (N, D), of any norm.
        centroids: float32 (K, D).
        spherical: Distance is 1 − cosine; else the squared Euclidean distance. A zero row is 1 from all centroids.

    Returns:
        Labels, distances, and margins: distance to the second centroid minus distance to the first, 0 if K = 1.
    """
    table = _unit(centroids.astype(np.float64)) if spherical else centroids.astype(np.float64)
    found = Assignment(
        np.empty(len(points), np.int32), np.empty(len(points), np.float32), np.zeros(len(points), np.float32)
    )
    for first in range(0, len(points), ROWS):
        rows = slice(first, first + ROWS)
        part = points[rows].astype(np.float64)
        if spherical:
            distances = 1.0 - _unit(part) @ table.T  # (n, K)
        else:
            squares = np.einsum("nd,nd->n", part, part)[:, None] + np.einsum("kd,kd->k", table, table)
            distances = squares - 2.0 * (part @ table.T)  # (n, K)
        distances = np.maximum(distances, 0.0).astype(np.float32)
        nearest = distances.argmin(axis=1)
        each = np.arange(len(nearest))
        found.labels[rows] = nearest
        found.distance[rows] = distances[each, nearest]
        if len(table) > 1:
            distances[each, nearest] = np.inf
            found.margin[rows] = distances.min(axis=1) - found.distance[rows]
    return found


def _checked(points: np.ndarray, k: int, spherical: bool) -> np.ndarray:
    if len(points) < k:
        raise InputError(f"k-means: {len(points)} points cannot make {k} clusters; ask for fewer, or add images")
    if not np.isfinite(points).all():
        raise InputError("k-means: some points are not finite; compute the features in precision fp32")
    points = np.ascontiguousarray(points, dtype=np.float32)
    if not spherical:
        return points
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    if not norms.all():
        raise InputError("k-means: zero vectors have no direction; leave them out")
    return points / norms


def _lloyd(points: np.ndarray, start: np.ndarray, iterations: int, spherical: bool, seed: int) -> np.ndarray:
    k, dimension = start.shape
    clustering = faiss.Kmeans(
        dimension,
        k,
        niter=iterations,
        spherical=spherical,
        seed=seed,
        # by default faiss silently drops all but 256 points per centroid
        max_points_per_centroid=-(-len(points) // k),
        min_points_per_centroid=1,
    )
    clustering.index = place_index(clustering.index)
    clustering.train(points, init_centroids=np.ascontiguousarray(start, dtype=np.float32))
    assert clustering.centroids is not None
    return clustering.centroids


class Rows(Protocol):
    """Points that are read by their numbers, such as an array."""

    def __len__(self) -> int:
        """Number of points."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Points by ascending number, float32 (n, D)."""


def draw_start(points: Rows, k: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: of a few rows drawn by their distance to the centroids so far, take the most useful one.

    Args:
        points: N points of which at most `START_ROWS` per cluster are looked at.
        k: Number of clusters K.
        rng: Draws them.

    Returns:
        float32 (K, D), some of the points.
    """
    count = min(len(points), START_ROWS * k)
    drawn_rows = np.arange(count) if count == len(points) else np.sort(rng.choice(len(points), count, replace=False))
    sample = points[drawn_rows]
    rows = sample - sample.mean(axis=0)  # near the origin squared distances lose fewer digits
    squares = np.einsum("nd,nd->n", rows, rows)
    chosen = [int(rng.integers(len(rows)))]
    nearest = np.full(len(rows), np.inf, np.float32)
    trials = 2 + int(np.log(k))  # as in scikit-learn
    candidates = np.array(chosen)
    while True:
        to_candidates = np.maximum(squares[:, None] + squares[candidates] - 2 * (rows @ rows[candidates].T), 0)
        to_nearest = np.minimum(nearest[:, None], to_candidates)  # (n, trials)
        best = int(to_nearest.sum(axis=0, dtype=np.float64).argmin())
        nearest = to_nearest[:, best]
        chosen[-1] = int(candidates[best])
        if len(chosen) == k:
            return sample[chosen]
        running = np.cumsum(nearest, dtype=np.float64)
        drawn = np.searchsorted(running, rng.random(trials) * running[-1], side="right")
        candidates = np.minimum(drawn, len(rows) - 1)
        chosen.append(-1)


def _without_empty(points: np.ndarray, centroids: np.ndarray, spherical: bool) -> KMeans:
    """The clustering by these centroids, empty ones being started anew and refined by one Lloyd step at a time."""
    k = len(centroids)
    found, sizes = _assigned(points, centroids, spherical)
    reseeded = 0
    if not sizes.all() and (distinct := _few_distinct(points, k)) is not None:
        centroids = distinct[np.arange(k) % len(distinct)]
        found, sizes = _assigned(points, centroids, spherical)
        return KMeans(centroids, float(found.distance.sum(dtype=np.float64)), (), sizes, 0)
    # below this a distance may be mere rounding, among equal points
    noise = 1e-9 if spherical else 1e-9 * float(np.square(points).sum(axis=1).max())
    for _ in range(k):  # a Lloyd step may empty another cluster, but hardly ever does
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            break
        labels, distance = found.labels.copy(), found.distance.copy()
        for cluster in empty:
            spread = np.bincount(labels[distance > noise], minlength=k) > 0
            donor = np.where(spread, np.bincount(labels, minlength=k), 0).argmax()
            among = labels == donor if spread.any() else np.ones(len(labels), bool)
            farthest = np.where(among, distance, -1.0).argmax()
            labels[farthest], distance[farthest] = cluster, 0.0
        reseeded += len(empty)
        means = [points[labels == cluster].mean(axis=0, dtype=np.float64) for cluster in range(k)]
        centroids = (_unit(np.stack(means)) if spherical else np.stack(means)).astype(np.float32)
        found, sizes = _assigned(points, centroids, spherical)
    return KMeans(centroids, float(found.distance.sum(dtype=np.float64)), (), sizes, reseeded)


def _assigned(points: np.ndarray, centroids: np.ndarray, spherical: bool) -> tuple[Assignment, np.ndarray]:
    found = assign(points, centroids, spherical=spherical)
    return found, np.bincount(found.labels, minlength=len(centroids))


def _few_distinct(points: np.ndarray, k: int) -> np.ndarray | None:
    """The distinct rows in ascending order if there are fewer than k, else None."""
    rows = (points + 0.0).view(np.dtype((np.void, points.dtype.itemsize * points.shape[1]))).ravel()  # no -0.0
    _, first = np.unique(rows, return_index=True)
    return np.unique(points[first], axis=0) if len(first) < k else None


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
