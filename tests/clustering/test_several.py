"""Several processes cluster to the bytes of one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clustering import file_points, fitting
from pipeline.clustering.pyramid import cluster_pyramid
from pipeline.runtime.artifacts import open_artifact
from pipeline.runtime.digests import file_digest
from pipeline.runtime.distributed import ALONE, Ranks
from tests.clustering.test_finished_fits import stop_after
from tests.clustering.test_pyramid import LEVELS, LOG, names, params_with, planted, run, write_features
from tests.several import run_processes

WORLD = 3
IMAGES = 60
# what fits into memory, and what is clustered from files; more clusters than there are groups, so that some end empty
MODES: dict[str, dict[str, Any]] = {
    "memory": {"limit": fitting.IN_MEMORY, "restarts": 4},
    "files": {"limit": 0, "restarts": 2},
    "files, some equal": {"limit": 0, "restarts": 2, "k": 12, "equal": True},
    "one restart": {"limit": fitting.IN_MEMORY, "restarts": 1},
    "going on": {"limit": fitting.IN_MEMORY, "restarts": 4, "kept": True},
}


def cluster(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The digests of all files that the first process writes, and the statistics, by mode."""
    found, before = {}, (fitting.IN_MEMORY, file_points.CHUNK)
    for name, mode in MODES.items():
        changes = dict(mode)
        fitting.IN_MEMORY, file_points.CHUNK = changes.pop("limit"), 11
        features = open_artifact(folder / ("equal" if changes.pop("equal", False) else "features"))
        out, scratch = (folder / f"{kind} of {ranks.rank}-{ranks.world} in {name}" for kind in ("out", "scratch"))
        out.mkdir()
        if changes.pop("kept", False) and ranks.is_first:
            shutil.copytree(folder / "kept", scratch)
        train = {image_id for image_id in names(IMAGES) if image_id.startswith("train")}
        settings = params_with(**changes)
        statistics = cluster_pyramid(
            features,
            train,
            LEVELS,
            settings,
            out,
            {},
            LOG,
            scratch=scratch,
            check_stop=lambda: None,
            ranks=ranks,
        )
        found[name] = {path.name: file_digest(path) for path in sorted(out.iterdir())} | {"statistics": statistics}
        assert ranks.is_first or not list(scratch.rglob("*.npy"))
        shutil.rmtree(out)
        shutil.rmtree(scratch, ignore_errors=True)
    fitting.IN_MEMORY, file_points.CHUNK = before
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    vectors = {level: planted(level, IMAGES)[0] for level in LEVELS}
    vectors[1][3] = 0.0
    features = write_features(folder / "features", vectors)
    stop = stop_after(3)  # the first level, and two of its restarts
    with pytest.raises(KeyboardInterrupt):
        run(features, folder / "cut", scratch=folder / "kept", check_stop=stop, restarts=4)
    assert len(list((folder / "kept").glob("level=1/restart-*.npz"))) == 2
    for level in LEVELS:  # eight distinct vectors
        vectors[level] = np.resize(vectors[level].reshape(-1, vectors[level].shape[2])[4:12], vectors[level].shape)
    write_features(folder / "equal", vectors)
    return folder


@pytest.fixture(scope="module")
def several(folder) -> list[dict[str, Any]]:
    return run_processes(cluster, folder, WORLD)


@pytest.fixture(scope="module")
def alone(folder) -> dict[str, Any]:
    return cluster(ALONE, folder)


@pytest.mark.parametrize("mode", MODES)
def test_labels_centroids_and_statistics_are_those_of_one_process(several, alone, mode):
    assert {"level=1.parquet", "level=2.parquet", "centroids.safetensors", "statistics.json"} < alone[mode].keys()
    assert several[0][mode] == alone[mode]
    assert alone["going on"] == alone["memory"]
