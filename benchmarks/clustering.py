"""Times k-means in memory and over files, against the arithmetic and against scikit-learn."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import MEGABYTE, Row, peak_memory, time_calls
from benchmarks.samples import draw_points
from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.kmeans import KMeans, assign, draw_start, fit_kmeans
from pipeline.clustering.sharded import fit_sharded
from pipeline.runtime.randomness import generator

N, D, K, ITERATIONS = 100_000, 128, 27, 25
FILES = 8
LARGE = 2_000_000  # points of the run whose memory is looked at
LARGE_ITERATIONS = 2


def measure_rows() -> list[Row]:
    """One restart each, from the same start, with the same number of steps."""
    points = draw_points(N, D, 1)
    start = draw_start(points, K, generator(0, "k-means", 0))

    def gemm() -> None:
        for _ in range(ITERATIONS):
            points @ start.T

    def memory() -> KMeans:
        return fit_kmeans(points, K, spherical=True, iterations=ITERATIONS, restarts=1, seed=0)

    ours = time_calls({"GEMM": gemm, "memory": memory}, repeats=2)
    rows = [
        Row(
            "k-means in memory",
            "matrix products alone",
            ours["memory"],
            ours["GEMM"],
            "s",
            ours["memory"] / ours["GEMM"],
            "<= 2",
        )
    ]
    fitted = memory()
    return [
        *rows,
        *_scikit_learn(points, start, ours["memory"], fitted),
        *_files(points, ours["memory"], fitted),
        _large(),
    ]


def _scikit_learn(points: np.ndarray, start: np.ndarray, seconds: float, fitted: KMeans) -> list[Row]:
    try:
        from sklearn.cluster import KMeans as Lloyd
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        return []
    rows = []
    for name, make in (
        ("scikit-learn KMeans", lambda: Lloyd(K, init=start, n_init=1, max_iter=ITERATIONS, tol=0.0)),
        ("scikit-learn MiniBatchKMeans", lambda: MiniBatchKMeans(K, init=start, n_init=1, max_iter=ITERATIONS)),
    ):
        model = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they say that they did not converge
            theirs = time_calls({"fit": lambda model=model: model.fit(points)}, repeats=1)["fit"]
        inertia = float(assign(points, model.cluster_centers_.astype(np.float32), spherical=True).distance.sum())
        what = f"k-means in memory (its inertia is {100 * (fitted.inertia / inertia - 1):+.2f} %)"
        rows.append(Row(what, name, seconds, theirs, "s", theirs / seconds, ">= 5"))
    return rows


def _files(points: np.ndarray, seconds: float, fitted: KMeans) -> list[Row]:
    found: list[KMeans] = []

    def files() -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            held = FilePoints(place, np.array_split(points, FILES))
            settings = {"iterations": ITERATIONS, "restarts": 1, "seed": 0}
            found.append(fit_sharded(held, K, **settings, scratch=place, check_stop=lambda: None))

    taken = time_calls({"files": files}, repeats=1)["files"]
    inertia = found[-1].inertia
    return [
        Row("k-means over files", "k-means in memory", taken, seconds, "s", taken / seconds, "<= 2"),
        Row(
            "… its inertia off by",
            "k-means in memory",
            inertia,
            fitted.inertia,
            "",
            abs(inertia / fitted.inertia - 1),
            "<= 0.005",
        ),
    ]


def _large() -> Row:
    def parts() -> Iterator[np.ndarray]:
        for seed in range(20):
            yield draw_points(LARGE // 20, D, seed)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            settings = {"iterations": LARGE_ITERATIONS, "restarts": 5, "seed": 0}
            fit_sharded(FilePoints(place, parts()), K, **settings, scratch=place, check_stop=lambda: None)

    peak = peak_memory(run) / MEGABYTE
    return Row(
        f"k-means over files, {LARGE:,} × {D}: peak memory",
        "the points",
        peak,
        LARGE * D * 4 / MEGABYTE,
        "MB",
        peak / 1000,
        "<= 1",
    )
