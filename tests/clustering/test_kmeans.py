import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from pipeline.clustering.kmeans import assign, fit_kmeans, use_threads
from pipeline.errors import InputError


def mixture(N: int, D: int, K: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(K, D))
    truth = rng.integers(K, size=N)
    return (centres[truth] + spread * rng.normal(size=(N, D))).astype(np.float32), truth


def fit(points: np.ndarray, k: int, *, spherical: bool = False, restarts: int = 3, seed: int = 0, **more):  # type: ignore[no-untyped-def]
    return fit_kmeans(points, k, spherical=spherical, iterations=20, restarts=restarts, seed=seed, **more)


def distances_by_hand(points: np.ndarray, centroids: np.ndarray, spherical: bool) -> np.ndarray:
    points, centroids = points.astype(np.float64), centroids.astype(np.float64)
    if spherical:
        norms = np.linalg.norm(points, axis=1)[:, None] * np.linalg.norm(centroids, axis=1)
        return 1 - points @ centroids.T / norms
    return ((points[:, None] - centroids[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("spherical", [False, True])
def test_assign_against_all_distances(spherical: bool) -> None:
    points, _ = mixture(9000, 7, 5, 1.0)  # more than one chunk
    centroids = mixture(6, 7, 6, 1.0, seed=1)[0]
    labels, distance, margin = assign(points, centroids, spherical=spherical)
    expected = distances_by_hand(points, centroids, spherical)
    ordered = np.sort(expected, axis=1)
    np.testing.assert_array_equal(labels, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, ordered[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(margin, ordered[:, 1] - ordered[:, 0], atol=1e-5)
    assert [part.dtype for part in (labels, distance, margin)] == [np.int32, np.float32, np.float32]


@pytest.mark.parametrize("spherical", [False, True])
def test_the_first_of_equally_near_centroids_wins(spherical: bool) -> None:
    points, _ = mixture(500, 33, 5, 1.0)
    centroids = np.repeat(mixture(4, 33, 4, 1.0, seed=1)[0], 3, axis=0)
    labels, _, margin = assign(points, centroids, spherical=spherical)
    assert set(labels.tolist()) <= {0, 3, 6, 9}
    assert not margin.any()


def test_assign_limits() -> None:
    one = np.ones((1, 3), np.float32)
    assert not assign(mixture(5, 3, 2, 1.0)[0], one, spherical=True).margin.any()
    assert assign(np.zeros((2, 3), np.float16), one, spherical=True).distance.tolist() == [1, 1]
    assert assign(np.zeros((0, 3), np.float16), one, spherical=True).labels.shape == (0,)


@given(cut=st.integers(1, 199))
def test_labels_do_not_depend_on_how_rows_are_split(cut: int) -> None:
    points = mixture(200, 19, 5, 1.0)[0].astype(np.float16)
    centroids = mixture(9, 19, 9, 1.0, seed=1)[0]
    whole = assign(points, centroids, spherical=True)
    parts = [assign(part, centroids, spherical=True) for part in (points[:cut], points[cut:])]
    for index in range(3):
        np.testing.assert_array_equal(whole[index], np.concatenate([part[index] for part in parts]))


@pytest.mark.parametrize("spherical", [False, True])
def test_finds_planted_clusters(spherical: bool) -> None:
    points, truth = mixture(2000, 16, 12, 0.2)
    found = fit(points, 12, spherical=spherical)
    labels = assign(points, found.centroids, spherical=spherical).labels
    assert adjusted_rand_score(truth, labels) == pytest.approx(1)
    assert found.sizes.tolist() == np.bincount(labels, minlength=12).tolist()
    assert found.reseeded == 0
    norms = np.linalg.norm(found.centroids, axis=1)
    assert np.allclose(norms, 1, atol=1e-5) == spherical


@pytest.mark.parametrize("spherical", [False, True])
def test_inertia_is_that_of_the_best_restart(spherical: bool) -> None:
    points, _ = mixture(1000, 8, 20, 0.5)
    found = fit(points, 9, spherical=spherical, restarts=5)
    assert len(found.restart_inertia) == 5
    assert len(set(found.restart_inertia)) > 1
    assert found.inertia == min(found.restart_inertia)
    expected = distances_by_hand(points, found.centroids, spherical).min(axis=1).sum()
    assert found.inertia == pytest.approx(expected, rel=1e-5)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_starts() -> None:
    points, _ = mixture(3000, 8, 20, 1.0)
    first, second, other = fit(points, 9), fit(points, 9), fit(points, 9, seed=1)
    assert first.centroids.tobytes() == second.centroids.tobytes()
    assert first.restart_inertia == second.restart_inertia
    assert first.restart_inertia != other.restart_inertia


def test_threads_do_not_change_a_bit() -> None:
    points, _ = mixture(3000, 8, 20, 1.0)
    before = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 3):
            use_threads(threads)
            found.append(fit(points, 9, restarts=4))
            assert faiss.omp_get_max_threads() == threads
    finally:
        use_threads(before)
    assert found[0].centroids.tobytes() == found[1].centroids.tobytes()
    assert found[0].restart_inertia == found[1].restart_inertia


def test_all_rows_are_used() -> None:
    # faiss alone would draw 256 rows per cluster
    points, _ = mixture(2000, 4, 1, 1.0)
    found = fit(points, 1)
    np.testing.assert_allclose(found.centroids[0], points.mean(axis=0), atol=1e-5)


def test_starts_where_it_is_told() -> None:
    points, _ = mixture(2000, 16, 12, 0.2)
    start = fit(points, 12).centroids[::-1]
    found = fit(points, 12, restarts=1, start=start)
    np.testing.assert_allclose(found.centroids, start, atol=1e-4)


def test_beats_the_starts_of_faiss() -> None:
    points, _ = mixture(4000, 32, 30, 0.5)
    own, theirs = [], []
    for seed in range(5):
        own.append(fit(points, 27, restarts=1, seed=seed).inertia)
        plain = faiss.Kmeans(32, 27, niter=20, seed=seed, max_points_per_centroid=4000, min_points_per_centroid=1)
        plain.train(points)
        assert plain.centroids is not None
        theirs.append(float(assign(points, plain.centroids, spherical=False).distance.sum()))
    assert np.mean(own) < np.mean(theirs)


@pytest.mark.parametrize("spherical", [False, True])
def test_empty_clusters_are_started_anew(spherical: bool) -> None:
    # most points coincide, so that two centroids of this start stay on them and one of the two ends empty
    rng = np.random.default_rng(0)
    points = np.concatenate([np.tile(rng.normal(size=8), (500, 1)), rng.normal(size=(30, 8))]).astype(np.float32)
    start = np.concatenate([points[:6], points[500:502]])
    found = fit_kmeans(points, 8, spherical=spherical, iterations=1, restarts=1, seed=0, start=start)
    assert found.reseeded > 0
    assert (found.sizes > 0).all()
    assert found.sizes.sum() == len(points)
    again = fit_kmeans(points, 8, spherical=spherical, iterations=1, restarts=1, seed=0, start=start)
    assert again.centroids.tobytes() == found.centroids.tobytes()


@pytest.mark.parametrize("spherical", [False, True])
def test_exactly_k_distinct_points(spherical: bool) -> None:
    distinct = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    points = np.concatenate([np.tile(distinct[:1], (1000, 1)), distinct])
    for seed in range(5):
        found = fit(points, 5, spherical=spherical, seed=seed)
        assert sorted(found.sizes.tolist()) == [1, 1, 1, 1, 1001]
        assert found.inertia == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("spherical", [False, True])
def test_fewer_distinct_points_than_clusters(spherical: bool) -> None:
    points = np.repeat(np.array([[2, 1], [1, 3], [-1, 1]], np.float32), [5, 3, 2], axis=0)
    found = fit(points, 5, spherical=spherical)
    assert found.sizes.tolist() == [2, 3, 5, 0, 0]
    assert found.centroids.shape == (5, 2)
    np.testing.assert_array_equal(found.centroids[3:], found.centroids[:2])
    assert found.inertia == pytest.approx(0, abs=1e-6)


def test_identical_points() -> None:
    points = np.tile(np.array([[0.3, -0.7, 0.1]], np.float32), (40, 1))
    found = fit(points, 4, spherical=True)
    assert found.sizes.tolist() == [40, 0, 0, 0]
    assert np.isfinite(found.centroids).all()


def test_as_many_clusters_as_points() -> None:
    points, _ = mixture(7, 3, 7, 1.0)
    assert fit(points, 7).sizes.tolist() == [1] * 7


def test_unusable_points_are_refused() -> None:
    points, _ = mixture(10, 3, 2, 1.0)
    with pytest.raises(InputError, match="10 points cannot make 11 clusters"):
        fit(points, 11)
    with pytest.raises(InputError, match="not finite"):
        fit(np.where(np.arange(10)[:, None] == 4, np.nan, points), 2)
    with pytest.raises(InputError, match="zero vectors"):
        fit(np.where(np.arange(10)[:, None] == 4, 0, points), 2, spherical=True)


def test_threads_are_set() -> None:
    before = faiss.omp_get_max_threads()
    try:
        use_threads(1)
        assert faiss.omp_get_max_threads() == 1
    finally:
        use_threads(before)
