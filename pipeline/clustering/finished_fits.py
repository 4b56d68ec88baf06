"""State of an interrupted clustering: arrays that are whole or absent, and fits, so that none is made twice."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.clustering.kmeans import KMeans
from pipeline.runtime.artifacts import replace_file


def save_arrays(path: Path, **arrays: np.ndarray | float) -> None:
    """Write arrays by name, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    replace_file(path, buffer.getvalue())


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote, or None if there is nothing that can be read."""
    try:
        # not from the path: numpy does not close a file that it cannot read
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return None


def save_fit(path: Path, fit: KMeans) -> None:
    """Write a fit whole or not at all."""
    save_arrays(
        path,
        centroids=fit.centroids,
        inertia=fit.inertia,
        restart_inertia=np.array(fit.restart_inertia),
        sizes=fit.sizes,
        reseeded=fit.reseeded,
    )


def load_fit(path: Path) -> KMeans | None:
    """A fit that `save_fit` wrote, or None if there is none that can be read."""
    held = load_arrays(path)
    if held is None:
        return None
    inertia = tuple(held["restart_inertia"].tolist())
    return KMeans(held["centroids"], float(held["inertia"]), inertia, held["sizes"], int(held["reseeded"]))


@dataclass(frozen=True)
class FinishedRestarts:
    """The restarts of one k-means, of which an interrupted run leaves those that were finished.

    Attributes:
        folder: Where they lie; it must belong to the same points and parameters. Several processes may share it.
        check_stop: Raises to interrupt; called before each restart that is to be fitted.
    """

    folder: Path
    check_stop: Callable[[], None]

    def once(self, restart: int, fit: Callable[[], KMeans]) -> KMeans:
        """The fit of a restart, made unless it is here already; threads may ask for different ones at once."""
        path = self.folder / f"restart-{restart:05d}.npz"
        found = load_fit(path)
        if found is None:
            self.check_stop()
            found = fit()
            save_fit(path, found)
        return found
