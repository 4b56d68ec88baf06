import signal
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import faiss
import numpy as np
import pytest

from pipeline.clustering import kmeans
from pipeline.clustering.finished_fits import FinishedRestarts, load_fit, save_fit
from pipeline.clustering.kmeans import KMeans, fit_kmeans
from pipeline.runtime.interrupts import Interrupted, StopSignal

RESTARTS = 6


def test_a_fit_comes_back_as_it_was(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    fit = fit_kmeans(points, 5, spherical=True, iterations=5, restarts=2, seed=0)
    save_fit(tmp_path / "fit.npz", fit)
    held = load_fit(tmp_path / "fit.npz")
    assert held is not None
    assert_same(held, fit)


def assert_same(one: KMeans, other: KMeans) -> None:
    np.testing.assert_array_equal(one.centroids, other.centroids)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    assert (one.centroids.dtype, one.sizes.dtype) == (other.centroids.dtype, other.sizes.dtype)
    assert (one.inertia, one.restart_inertia, one.reseeded) == (other.inertia, other.restart_inertia, other.reseeded)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fit.npz"
    assert load_fit(path) is None
    for data in (b"", b"torn", b"PK\x03\x04torn"):
        path.write_bytes(data)
        assert load_fit(path) is None


def stop_after(times: int) -> Callable[[], None]:
    """A `check_stop` that raises once it was asked so many times."""
    asked = count()

    def check_stop() -> None:
        if next(asked) >= times:  # one at a time, also in threads
            raise KeyboardInterrupt

    return check_stop


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by an entry for each restart that is fitted to its end."""
    ended: list[int] = []
    lloyd = kmeans._lloyd

    def fit(*arguments: object) -> np.ndarray:
        centroids = lloyd(*arguments)  # type: ignore[arg-type]
        ended.append(1)
        return centroids

    monkeypatch.setattr(kmeans, "_lloyd", fit)
    return ended


def fit_restarts(folder: Path, check_stop: Callable[[], None] = lambda: None) -> KMeans:
    points = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    once = FinishedRestarts(folder, check_stop).once
    return fit_kmeans(points, 12, spherical=True, iterations=9, restarts=RESTARTS, seed=0, once=once)


@pytest.mark.parametrize("threads", [1, 3])
def test_restarts_that_were_finished_are_not_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: list[int], threads: int
) -> None:
    whole = fit_restarts(tmp_path / "whole")
    fitted.clear()
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: threads)
    with pytest.raises(KeyboardInterrupt):
        fit_restarts(tmp_path / "cut", stop_after(4))
    assert len(fitted) == len(list((tmp_path / "cut").glob("restart-*.npz"))) == 4
    assert_same(fit_restarts(tmp_path / "cut"), whole)
    assert len(fitted) == RESTARTS
    (tmp_path / "cut" / "restart-00003.npz").write_bytes(b"torn")
    assert_same(fit_restarts(tmp_path / "cut"), whole)
    assert len(fitted) == RESTARTS + 1


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    signals = StopSignal()
    signals.install()
    yield signals
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_signal_in_a_restart_leaves_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: list[int], stop: StopSignal
) -> None:
    whole = fit_restarts(tmp_path / "whole")
    fitted.clear()
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 1)
    asked = count(1)

    def send() -> None:
        if next(asked) == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit_restarts(tmp_path / "cut", send)
    assert 2 <= len(fitted) == len(list((tmp_path / "cut").glob("restart-*.npz")))
    assert_same(fit_restarts(tmp_path / "cut", stop.check), whole)
    assert len(fitted) == RESTARTS
