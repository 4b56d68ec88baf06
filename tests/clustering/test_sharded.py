from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from pipeline.clustering import file_points, sharded
from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.kmeans import KMeans, assign, fit_kmeans
from pipeline.clustering.sharded import STATE, fit_sharded

K, D = 6, 16


def mixture(N: int = 3000, spread: float = 0.7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(K, D))[rng.integers(K, size=N)] + spread * rng.normal(size=(N, D))).astype(np.float32)


def split(points: np.ndarray) -> list[np.ndarray]:
    return np.split(points, [len(points) // 3, len(points) // 3, len(points) // 2])  # one part is empty


def fit(
    folder: Path, points: np.ndarray, k: int = K, stop_at: int = -1, restarts: int = 3, iterations: int = 25
) -> KMeans:
    asked = 0

    def check_stop() -> None:
        nonlocal asked
        asked += 1
        if asked == stop_at:
            raise KeyboardInterrupt

    files = FilePoints(folder, split(points))
    return fit_sharded(
        files, k, iterations=iterations, restarts=restarts, seed=0, scratch=folder, check_stop=check_stop
    )


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_points, "CHUNK", 300)


def test_points_come_back_by_number_and_in_chunks(tmp_path: Path) -> None:
    points = mixture(1000)
    files = FilePoints(tmp_path, split(points))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_array_equal(np.concatenate(list(files.chunks())), unit)
    rows = np.array([0, 5, 332, 333, 499, 500, 999])
    np.testing.assert_array_equal(files[rows], unit[rows])
    assert (len(files), files.dimension) == (1000, D)


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_is_as_good_as_in_memory(tmp_path: Path, spread: float) -> None:
    points = mixture(spread=spread)
    found = fit(tmp_path, points)
    memory = fit_kmeans(points, K, spherical=True, iterations=25, restarts=3, seed=0)
    np.testing.assert_allclose(found.restart_inertia, memory.restart_inertia, rtol=0.005)
    assert found.inertia == pytest.approx(memory.inertia, rel=0.005)
    labels = [assign(points, fitted.centroids, spherical=True).labels for fitted in (found, memory)]
    assert adjusted_rand_score(*labels) > 0.97


def test_says_what_the_centroids_give(tmp_path: Path) -> None:
    points = mixture()
    found = fit(tmp_path, points)
    exact = assign(points, found.centroids, spherical=True)
    assert found.inertia == pytest.approx(exact.distance.sum(dtype=np.float64), rel=1e-6)
    assert found.inertia == pytest.approx(min(found.restart_inertia), rel=1e-4)
    assert found.sizes.tolist() == np.bincount(exact.labels, minlength=K).tolist()
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-6)


def test_steps_are_lloyd_s(tmp_path: Path) -> None:
    points = mixture()
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    before, after = (fit(tmp_path / str(steps), points, restarts=1, iterations=steps).centroids for steps in (2, 3))
    labels = (unit @ before.T).argmax(axis=1)
    means = np.stack([unit[labels == cluster].mean(axis=0) for cluster in range(K)])
    np.testing.assert_allclose(after, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("stop_at", [1, 2, 5, 9])
def test_goes_on_at_the_next_step_and_ends_the_same(
    tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = mixture(spread=1.5)
    whole = fit(tmp_path / "whole", points)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", points, stop_at=stop_at)
    steps = []
    step = sharded._step
    monkeypatch.setattr(sharded, "_step", lambda *a, **b: (steps.append(1), step(*a, **b)))
    resumed = fit(tmp_path / "cut", points)
    np.testing.assert_array_equal(resumed.centroids, whole.centroids)
    assert (resumed.inertia, resumed.restart_inertia) == (whole.inertia, whole.restart_inertia)
    done = len(steps)
    steps.clear()
    fit(tmp_path / "counted", points)
    assert len(steps) - done == stop_at - 1


def test_a_torn_state_is_not_used(tmp_path: Path) -> None:
    points = mixture()
    whole = fit(tmp_path / "whole", points)
    (tmp_path / "torn").mkdir()
    data = (tmp_path / "whole" / STATE).read_bytes()
    (tmp_path / "torn" / STATE).write_bytes(data[: len(data) // 2])
    np.testing.assert_array_equal(fit(tmp_path / "torn", points).centroids, whole.centroids)


def test_no_cluster_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = mixture()
    # equal starts: all but the first cluster are empty at first
    monkeypatch.setattr(sharded, "draw_start", lambda points, k, rng: np.repeat(points[np.array([0])], k, axis=0))
    found = fit(tmp_path, points)
    assert found.sizes.all()
    assert found.reseeded >= K - 1


def test_fewer_distinct_points_than_clusters(tmp_path: Path) -> None:
    points = np.repeat(np.eye(D, dtype=np.float32)[:3], 40, axis=0)
    found = fit(tmp_path, points)
    assert found.inertia == pytest.approx(0, abs=1e-6)
    assert (found.sizes > 0).sum() == 3
    assert found.sizes.sum() == 120
