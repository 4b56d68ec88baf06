import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.clustering.stability import (
    FEWEST_IMAGES,
    Spread,
    Stability,
    Suggestion,
    measure_stability,
    split_images,
    suggest,
)

LOG = logging.getLogger("fs4.test")
IMAGES, CELLS, D = 40, 16, 12
NUMBERS = np.repeat(np.arange(IMAGES), CELLS)


def blobs(count: int, seed: int) -> np.ndarray:
    """Points around as many directions, at random over the images."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0][:count]
    types = rng.integers(count, size=len(NUMBERS))
    return (directions[types] + 0.1 * rng.normal(size=(len(types), D))).astype(np.float32)


def measure(points: np.ndarray, ks: list[int], rounds: int = 5, seed: int = 0, threads: int = 1) -> list[Stability]:
    return measure_stability(points, NUMBERS, ks, rounds=rounds, seed=seed, threads=threads, log=LOG)


def stability(k: int, mean: float, sd: float = 0.01, reference: float = 0.2, reference_sd: float = 0.02) -> Stability:
    nothing = Spread(reference, reference_sd)
    return Stability(k, 4, Spread(mean, sd), Spread(mean, sd), nothing, replace(nothing, mean=reference / 2))


@pytest.mark.parametrize(("count", "seed"), [(5, 0), (5, 2), (7, 3)])
def test_the_number_of_blobs_is_found(count: int, seed: int) -> None:
    results = measure(blobs(count, seed), list(range(2, 11)))
    assert suggest(results).k == count
    best = results[count - 2]
    assert best.agreement.mean > 0.98
    assert best.information.mean > 0.95
    assert best.reference.mean < 0.6


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["permuted", "normal", "stretched"])
def test_points_without_clusters_suggest_nothing(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.permuted(blobs(5, seed), axis=0)
    if kind != "permuted":
        points = rng.normal(size=points.shape)
    if kind == "stretched":  # two clusters are stable here, and so they are on the reference
        points[:, 0] *= 6
    results = measure(points.astype(np.float32), [2, 3, 5, 8])
    assert suggest(results) == Suggestion(None, ())


def test_two_clusters_of_stretched_points_are_stable_all_the_same() -> None:
    points = np.random.default_rng(0).normal(size=(len(NUMBERS), D)).astype(np.float32)
    points[:, 0] *= 6
    (result,) = measure(points, [2])
    assert result.agreement.mean > 0.8
    assert result.gap < 0.1


def test_it_is_seeded_and_threads_do_not_matter() -> None:
    points = blobs(4, 0)
    first = measure(points, [3, 4, 6], rounds=2)
    assert measure(points, [3, 4, 6], rounds=2, threads=3) == first
    assert measure(points, [3, 4, 6], rounds=2, seed=1) != first
    assert measure(points, [3, 6], rounds=2)[0] == first[0]


@pytest.mark.parametrize("count", [FEWEST_IMAGES, 11, 14, 53])
def test_halves_are_disjoint_and_equal(count: int) -> None:
    splits = split_images(count, 3, seed=0)
    for first, second, held in splits:
        assert len(first) == len(second) >= 4
        assert len(held) >= 2
        assert sorted([*first, *second, *held]) == list(range(count))
    assert len({tuple(first) for first, _, _ in splits}) == 3


def test_the_reference_is_the_more_stable_one_and_the_gap_has_a_spread() -> None:
    result = Stability(5, 4, Spread(0.9, 0.03), Spread(0.8, 0.0), Spread(0.3, 0.04), Spread(0.5, 0.0))
    assert result.reference == Spread(0.5, 0.0)
    assert result.gap == pytest.approx(0.4)
    assert replace(result, permuted=Spread(0.1, 0.0)).gap_sd == pytest.approx(math.hypot(0.03, 0.04))


def test_a_gap_counts_only_above_chance() -> None:
    assert stability(5, 0.26).supported
    assert not stability(5, 0.24).supported  # smaller than what matters
    assert not stability(5, 0.50, reference_sd=0.2).supported
    assert not stability(5, 0.50, sd=0.2).supported


def test_among_equals_the_larger_k_is_suggested() -> None:
    results = [stability(2, 0.4), stability(3, 0.9, sd=0.1), stability(5, 0.86), stability(6, 0.7), stability(8, 0.75)]
    assert suggest(results) == Suggestion(5, (3, 8, 6))
    assert suggest([replace(results[1], agreement=Spread(0.9, 0.0)), *results[2:]]) == Suggestion(3, (5, 8, 6))
    assert suggest([]) == Suggestion(None, ())
