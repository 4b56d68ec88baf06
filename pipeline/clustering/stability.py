"""Choosing the number of clusters without labels: how well clusterings of two halves of the images agree.

Lange, Roth, Braun, Buhmann, "Stability-based validation of clustering solutions", 2004; Ben-Hur, Elisseeff, Guyon,
"A stability based method for discovering structure in clustered data", 2002. On the limits: von Luxburg, "Clustering
stability: an overview", 2010. Few clusters are stable on any data, so what counts is the gap to data without clusters.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.clustering.agreement import adjusted_rand_index, normalised_mutual_information
from pipeline.clustering.kmeans import assign, fit_kmeans, use_threads
from pipeline.clustering.nulls import draw_gaussian, permute_columns
from pipeline.runtime.randomness import generator

FEWEST_IMAGES = 10  # two of them are set aside, and four make a half
HELD_OUT = 5  # one image in so many is in neither half
ITERATIONS, RESTARTS = 25, 2  # of the k-means on a half
# A gap counts if the rounds with and without clusters lie this many standard deviations apart, and at least so far.
# The error of the means would be too small a measure: all rounds share one data set, whose own chance they repeat.
SIGNIFICANT, SMALLEST_GAP = 2.0, 0.05
DATA, GAUSSIAN, PERMUTED = KINDS = range(3)
OTHERS = 3  # runners-up that are named


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the rounds."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Stability:
    """How stable k clusters are.

    Attributes:
        k: Number of clusters.
        rounds: Number of rounds that the means are taken over.
        agreement: Adjusted Rand index between the clusterings of two halves, on images of neither half.
        information: The same as normalised mutual information.
        gaussian: The agreement on normal points of the same mean and covariance.
        permuted: The agreement on points whose features are permuted across the points.
    """

    k: int
    rounds: int
    agreement: Spread
    information: Spread
    gaussian: Spread
    permuted: Spread

    @property
    def reference(self) -> Spread:
        """The more stable one of the two kinds of points without clusters."""
        return max(self.gaussian, self.permuted, key=lambda spread: spread.mean)

    @property
    def gap(self) -> float:
        """By how much the agreement exceeds the reference's."""
        return self.agreement.mean - self.reference.mean

    @property
    def gap_sd(self) -> float:
        """Standard deviation of the difference between a round and a round on the reference."""
        return math.hypot(self.agreement.sd, self.reference.sd)

    @property
    def supported(self) -> bool:
        """Whether the gap is larger than chance makes it."""
        return self.gap > max(SIGNIFICANT * self.gap_sd, SMALLEST_GAP)


@dataclass(frozen=True)
class Suggestion:
    """The number of clusters that stability speaks for, None if for none, and the runners-up."""

    k: int | None
    others: tuple[int, ...]


def split_images(count: int, rounds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Divide the images anew for each round.

    Args:
        count: Number of images, at least `FEWEST_IMAGES`.
        rounds: How often.
        seed: Determines the draws.

    Returns:
        For each round the numbers of the images of both halves, equally many, and of the images held out.
    """
    held = count // HELD_OUT
    half = (count - held) // 2
    orders = [generator(seed, "suggest-k images", number).permutation(count) for number in range(rounds)]
    return [(order[:half], order[half : 2 * half], order[2 * half :]) for order in orders]


def measure_stability(
    points: np.ndarray,
    images: np.ndarray,
    ks: Sequence[int],
    *,
    rounds: int,
    seed: int,
    threads: int,
    log: logging.Logger,
) -> list[Stability]:
    """Cluster both halves of the images with every k, in every round, and likewise data without clusters.

    Args:
        points: float32 (N, D), without zero rows; their directions are clustered.
        images: Integer (N,), to which image each belongs: 0 to n - 1, each of them at least once.
        ks: Numbers of clusters, each at most the number of points in any half.
        rounds: Draws of the halves, of the seeds and of the data without clusters; at least 2.
        seed: Determines them all.
        threads: How many clusterings are computed at once; of no influence on the result.
        log: For one line per finished round.

    Returns:
        One result per k, in their order.
    """
    splits = split_images(int(images.max()) + 1, rounds, seed)
    jobs = [(number, kind) for number in range(rounds) for kind in KINDS]

    def run(job: tuple[int, int]) -> list[tuple[float, float]]:
        number, kind = job
        rng = generator(seed, "suggest-k round", number, kind)
        if kind == DATA:
            drawn = points
        else:
            drawn = draw_gaussian(points, images, rng) if kind == GAUSSIAN else permute_columns(points, rng)
        first, second, held = (drawn[np.isin(images, part)] for part in splits[number])
        seeds = [int(rng.integers(2**31)) for _ in range(2)]
        return [_agree((first, second), held, k, seeds) for k in ks]

    found = np.empty((rounds, len(KINDS), len(ks), 2))
    # as many jobs as threads, each on one: see `fit_kmeans`
    pool = ThreadPoolExecutor(threads, initializer=partial(use_threads, 1))
    try:
        for (number, kind), result in zip(jobs, pool.map(run, jobs), strict=True):
            found[number, kind] = result
            if kind == PERMUTED:
                log.info("round %d of %d", number + 1, rounds)
    finally:
        pool.shutdown(cancel_futures=True)
    means, deviations = found.mean(axis=0), found.std(axis=0, ddof=1)  # (3, K, 2)

    def spread(kind: int, place: int, measure: int = 0) -> Spread:
        return Spread(float(means[kind, place, measure]), float(deviations[kind, place, measure]))

    return [
        Stability(k, rounds, spread(DATA, n), spread(DATA, n, 1), spread(GAUSSIAN, n), spread(PERMUTED, n))
        for n, k in enumerate(ks)
    ]


def suggest(results: Sequence[Stability]) -> Suggestion:
    """Choose the k with the largest gap; of those within one standard error of its agreement the largest.

    Args:
        results: By ascending k.

    Returns:
        The choice among the supported ones, and those with the next largest gaps.
    """
    supported = [result for result in results if result.supported]
    if not supported:
        return Suggestion(None, ())
    best = max(supported, key=lambda result: result.gap)
    error = best.agreement.sd / math.sqrt(best.rounds)
    chosen = max(result.k for result in supported if result.gap >= best.gap - error)
    others = sorted((result for result in supported if result.k != chosen), key=lambda result: -result.gap)
    return Suggestion(chosen, tuple(result.k for result in others[:OTHERS]))


def _agree(halves: tuple[np.ndarray, np.ndarray], held: np.ndarray, k: int, seeds: list[int]) -> tuple[float, float]:
    """Agreement of the clusterings of two halves about the points held out: adjusted Rand, mutual information."""
    first, second = (
        assign(
            held,
            fit_kmeans(half, k, spherical=True, iterations=ITERATIONS, restarts=RESTARTS, seed=seed).centroids,
            spherical=True,
        ).labels
        for half, seed in zip(halves, seeds, strict=True)
    )
    return adjusted_rand_index(first, second), normalised_mutual_information(first, second)
