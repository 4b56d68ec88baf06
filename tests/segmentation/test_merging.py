import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clustering.agreement import normalised_mutual_information
from pipeline.segmentation.merging import confusion_groups, count_confusion, ward_groups


def inertia(points: np.ndarray, labels: np.ndarray) -> float:
    return sum(np.square(points[labels == each] - points[labels == each].mean(0)).sum() for each in np.unique(labels))


def slow_ward(centroids: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
    """Of all pairs of groups merge the one after which the points have the least inertia, each point in its place."""
    points = np.repeat(centroids.astype(np.float64), sizes, axis=0)
    owners = np.repeat(np.arange(len(centroids)), sizes)
    groups = np.arange(len(centroids))
    while len(np.unique(groups)) > k:
        names = np.unique(groups)
        tried = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        costs = [inertia(points, np.where(groups == b, a, groups)[owners]) for a, b in tried]
        a, b = tried[int(np.argmin(costs))]
        groups[groups == b] = a
    return np.unique(groups, return_inverse=True)[1]


@given(fine=st.integers(2, 7), data=st.data(), seed=st.integers(0, 1000))
def test_ward_merges_what_adds_the_least_inertia(fine, data, seed):
    k = data.draw(st.integers(1, fine))
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((fine, 3)).astype(np.float32)
    sizes = rng.integers(1, 9, fine)
    np.testing.assert_array_equal(ward_groups(centroids, sizes, k), slow_ward(centroids, sizes, k))


def test_ward_looks_at_the_sizes():
    centroids = np.array([[0.0], [1.0], [2.1]], np.float32)
    assert ward_groups(centroids, np.array([1, 1, 1]), 2).tolist() == [0, 0, 1]
    assert ward_groups(centroids, np.array([90, 90, 1]), 2).tolist() == [0, 1, 1]
    assert ward_groups(centroids, np.array([0, 5, 5]), 3).tolist() == [0, 1, 2]


def test_confusion_counts_the_spots_pair_by_pair():
    rng = np.random.default_rng(0)
    centroids = rng.standard_normal((4, 3)).astype(np.float32)
    first, second = rng.standard_normal((2, 50, 3)).astype(np.float32)
    expected = np.zeros((4, 4), np.int64)
    for one, two in zip(first, second, strict=True):
        row, column = (np.square(centroids - point).sum(1).argmin() for point in (one, two))
        expected[row, column] += 1
    found = count_confusion(centroids, first, second)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def mixed_up(groups: np.ndarray, stay: int, within: int, across: int) -> np.ndarray:
    same = groups[:, None] == groups[None]
    counts = np.random.default_rng(1).poisson(np.where(same, within, across))
    np.fill_diagonal(counts, stay)
    return counts


@pytest.mark.parametrize("stay", [0, 40, 4000])
def test_clusters_that_pixels_change_between_are_merged(stay):
    truth = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 2, 2, 1])
    groups = confusion_groups(mixed_up(truth, stay, 60, 2), 3, seed=0)
    np.testing.assert_array_equal(groups, truth)  # counted by their first members


def test_the_groups_minimise_the_share_of_pixels_that_leave():
    rng = np.random.default_rng(3)
    truth = rng.permutation(np.arange(8) % 2)
    confusion = mixed_up(truth, 100, 30, 6)
    affinity = confusion + confusion.T + np.eye(8)

    def leaving(groups: np.ndarray) -> float:
        return sum(affinity[np.ix_(groups == g, groups != g)].sum() / affinity[groups == g].sum() for g in range(2))

    every = [np.array([mask >> bit & 1 for bit in range(8)]) for mask in range(1, 127)]
    best = min(every, key=leaving)
    assert normalised_mutual_information(confusion_groups(confusion, 2, seed=0), best) == pytest.approx(1)


def test_a_cluster_that_was_not_seen_stands_alone():
    confusion = mixed_up(np.array([0, 0, 1, 1, 0]), 50, 20, 0)
    confusion[4], confusion[:, 4] = 0, 0
    assert confusion_groups(confusion, 3, seed=0).tolist() == [0, 0, 1, 1, 2]


def test_equal_seeds_give_equal_groups_and_as_many_groups_as_clusters_change_nothing():
    confusion = np.random.default_rng(0).integers(0, 40, (9, 9))
    np.testing.assert_array_equal(confusion_groups(confusion, 4, seed=5), confusion_groups(confusion, 4, seed=5))
    np.testing.assert_array_equal(confusion_groups(confusion, 9, seed=5), np.arange(9))
