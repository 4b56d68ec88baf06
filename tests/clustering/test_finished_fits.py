from pathlib import Path

import numpy as np

from pipeline.clustering.finished_fits import load_fit, save_fit
from pipeline.clustering.kmeans import fit_kmeans


def test_a_fit_comes_back_as_it_was(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    fit = fit_kmeans(points, 5, spherical=True, iterations=5, restarts=2, seed=0)
    save_fit(tmp_path / "fit.npz", fit)
    held = load_fit(tmp_path / "fit.npz")
    assert held is not None
    np.testing.assert_array_equal(held.centroids, fit.centroids)
    np.testing.assert_array_equal(held.sizes, fit.sizes)
    assert (held.inertia, held.restart_inertia, held.reseeded) == (fit.inertia, fit.restart_inertia, fit.reseeded)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fit.npz"
    assert load_fit(path) is None
    for data in (b"", b"torn", b"PK\x03\x04torn"):
        path.write_bytes(data)
        assert load_fit(path) is None
