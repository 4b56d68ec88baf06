import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics import adjusted_rand_score

from pipeline.clustering import fitting
from pipeline.clustering.pyramid import cluster_pyramid, read_pseudo_labels
from pipeline.errors import InputError
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import shard_name, write_shard
from pipeline.params import PggParams
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact
from tests.clustering.test_finished_fits import stop_after

LOG = logging.getLogger("fs4.test")
D, TYPES = 12, 5
LEVELS = [1, 2]


def planted(level: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, cells, D) around as many directions as there are types, and the types."""
    rng = np.random.default_rng([seed, level])
    directions = rng.normal(size=(TYPES, D))
    types = rng.integers(TYPES, size=(images, level * level))
    vectors = directions[types] + 0.1 * rng.normal(size=(*types.shape, D))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float16), types


def names(images: int) -> list[str]:
    return [f"{'val' if n % 5 == 4 else 'train'}/{n:03d}.png" for n in range(images)]


def write_features(folder: Path, vectors: dict[int, np.ndarray], shard_images: int = 7) -> Artifact:
    with create_artifact(folder) as writer:
        writer.notes["stage"] = "extract"
        for level, values in vectors.items():
            for part, first in enumerate(range(0, len(values), shard_images)):
                some = values[first : first + shard_images]
                ids = names(len(values))[first : first + shard_images]
                boxes = np.stack([cell_boxes(level, 32, 32)] * len(some))
                name = shard_name(level, part)
                writer.rows[name] = write_shard(writer.path / name, ids, boxes, some, level, {})
    return open_artifact(folder)


def params_with(**changes: Any) -> PggParams:
    values = {"k": TYPES, "restarts": 3, "iterations": 20, "max_points_per_centroid": 1000, "seed": 0}
    return PggParams.model_validate(values | changes)


def run(
    features: Artifact,
    out: Path,
    levels: list[int] = LEVELS,
    scratch: Path | None = None,
    check_stop: Callable[[], None] = lambda: None,
    **changes: Any,
) -> tuple[Artifact, dict[str, Any]]:
    train = {name for name in names(1000) if name.startswith("train")}
    with create_artifact(out) as writer:
        writer.notes["stage"] = "cluster"
        found = cluster_pyramid(
            features,
            train,
            levels,
            params_with(**changes),
            writer.path,
            writer.rows,
            LOG,
            scratch=scratch or Path(tempfile.mkdtemp(dir=out.parent)),
            check_stop=check_stop,
        )
    return open_artifact(out), found["levels"]


@pytest.fixture(autouse=True)
def propagate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let caplog hear the project's logger even after a test that set logging up."""
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)


@pytest.fixture
def features(tmp_path: Path) -> Artifact:
    return write_features(tmp_path / "features", {level: planted(level, 60)[0] for level in LEVELS})


def test_finds_planted_groups_at_each_level(features: Artifact, tmp_path: Path) -> None:
    artifact, statistics = run(features, tmp_path / "labels")
    for level, read in read_pseudo_labels(artifact).items():
        vectors, types = planted(level, 60)
        assert (read.level, read.k, list(read.labels)) == (level, TYPES, names(60))
        labels = np.stack(list(read.labels.values()))
        assert labels.shape == (60, level, level)
        assert adjusted_rand_score(types.ravel(), labels.ravel()) == pytest.approx(1)
        cosines = vectors.astype(np.float64) @ load_file(artifact.file("centroids.safetensors"))[f"level={level}"].T
        cosines = np.sort(cosines / np.linalg.norm(vectors.astype(np.float64), axis=2, keepdims=True), axis=2)
        margins = np.stack(list(read.margins.values())).reshape(60, -1)
        np.testing.assert_allclose(margins, cosines[..., -1] - cosines[..., -2], atol=1e-5)
        noted = statistics[str(level)]
        assert noted["rows"] == sum(noted["sizes"]) == 60 * level * level
        assert noted["rows_fitted"] == 48 * level * level
        assert noted["sizes"] == np.bincount(labels.ravel(), minlength=TYPES).tolist()
        assert (noted["k_asked"], noted["k_used"], noted["zero_vectors"]) == (TYPES, TYPES, 0)
        assert noted["inertia"] == min(noted["restart_inertia"])
    assert artifact.json("statistics.json") == {"levels": statistics}
    assert artifact.manifest["files"]["level=2.parquet"]["rows"] == 240


def test_only_train_images_are_fitted(features: Artifact, tmp_path: Path) -> None:
    vectors = {level: planted(level, 60)[0] for level in LEVELS}
    for values in vectors.values():
        values[4::5] = planted(1, 1, seed=9)[0][0, 0]
    changed = write_features(tmp_path / "changed", vectors)
    first, _ = run(features, tmp_path / "a")
    second, _ = run(changed, tmp_path / "b")
    assert first.file("centroids.safetensors").read_bytes() == second.file("centroids.safetensors").read_bytes()


def test_same_bytes_again(features: Artifact, tmp_path: Path) -> None:
    first, second = (run(features, tmp_path / name)[0] for name in "ab")
    assert first.manifest["files"] == second.manifest["files"]


@settings(max_examples=5, deadline=None)
@given(shard_images=st.integers(1, 40))
def test_labels_do_not_depend_on_the_shards(tmp_path_factory: pytest.TempPathFactory, shard_images: int) -> None:
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)  # without structure, so that labels hang on small differences
    vectors = {2: rng.normal(size=(37, 4, D)).astype(np.float16)}
    tables = []
    for size in (37, shard_images):
        artifact, _ = run(write_features(folder / f"f{size}", vectors, size), folder / f"l{size}", [2], k=9)
        tables.append(pq.ParquetFile(artifact.file("level=2.parquet")).read())
    assert tables[0].equals(tables[1])


def test_clips_to_half_the_train_cells(features: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fs4"):
        _, statistics = run(features, tmp_path / "labels", k=[100, 3])
    assert (statistics["1"]["k_asked"], statistics["1"]["k_used"]) == (100, 24)
    assert min(statistics["1"]["restart_inertia"]) > 0
    assert statistics["2"]["k_used"] == 3
    assert "level 1: pgg.k 100 clipped to 24, half of its 48 train cells" in caplog.text


def test_sample_is_bounded_and_counted(features: Artifact, tmp_path: Path) -> None:
    _, statistics = run(features, tmp_path / "labels", max_points_per_centroid=6)
    assert [statistics[str(level)]["rows_fitted"] for level in LEVELS] == [30, 30]
    assert [statistics[str(level)]["rows"] for level in LEVELS] == [60, 240]


def test_large_levels_are_clustered_from_files(
    features: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, memory = run(features, tmp_path / "memory")
    monkeypatch.setattr(fitting, "IN_MEMORY", 4000)  # level 1 has 48 cells of 48 bytes
    with caplog.at_level(logging.INFO):
        _, files = run(features, tmp_path / "files", scratch=(scratch := tmp_path / "scratch"))
    assert caplog.text.count("of cells are clustered from files") == 1
    assert files["1"] == memory["1"]
    for key in ("sizes", "rows", "rows_fitted", "k_used"):
        assert sorted(np.ravel(files["2"][key])) == sorted(np.ravel(memory["2"][key]))
    assert files["2"]["inertia"] == pytest.approx(memory["2"]["inertia"], rel=0.005)
    assert sorted(path.name for path in scratch.iterdir()) == ["level=1.npz", "level=2.npz"]


@pytest.mark.parametrize(("times", "level", "restarts"), [(2, 1, 1), (4, 2, 0), (7, 2, 2)])
def test_goes_on_at_the_next_restart(
    features: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    times: int,
    level: int,
    restarts: int,
) -> None:
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 1)  # one restart after the other
    whole, statistics = run(features, tmp_path / "whole")
    scratch = tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        run(features, tmp_path / "cut", scratch=scratch, check_stop=stop_after(times))
    assert len(list(scratch.glob(f"level={level}/restart-*.npz"))) == restarts
    with caplog.at_level(logging.INFO):
        resumed, found = run(features, tmp_path / "cut", scratch=scratch)
    assert caplog.text.count("going on from its finished k-means") == level - 1
    assert sorted(path.name for path in scratch.iterdir()) == ["level=1.npz", "level=2.npz"]
    assert found == statistics
    assert resumed.manifest["files"] == whole.manifest["files"]


def test_zero_vectors_are_ignored(tmp_path: Path) -> None:
    vectors, types = planted(2, 60)
    vectors[3] = 0
    vectors[4, 1] = 0
    artifact, statistics = run(write_features(tmp_path / "features", {2: vectors}), tmp_path / "labels", [2])
    labels = np.stack(list(read_pseudo_labels(artifact)[2].labels.values())).reshape(60, 4)
    zero = ~vectors.any(axis=2)
    assert (labels[zero] == -1).all()
    assert adjusted_rand_score(types[~zero], labels[~zero]) == pytest.approx(1)
    assert statistics["2"]["zero_vectors"] == 5
    assert statistics["2"]["rows_fitted"] == 48 * 4 - 4
    assert sum(statistics["2"]["sizes"]) == 235
    table = pq.ParquetFile(artifact.file("level=2.parquet")).read()
    hit = np.flatnonzero(zero.ravel())
    assert not table["distance"].to_numpy()[hit].any()
    assert not table["margin"].to_numpy()[hit].any()


def test_identical_features_leave_clusters_empty_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.tile(planted(1, 1)[0], (20, 1, 1))
    with caplog.at_level(logging.WARNING, "fs4"):
        _, statistics = run(write_features(tmp_path / "features", {1: vectors}), tmp_path / "labels", [1])
    assert statistics["1"]["sizes"] == [20, 0, 0, 0, 0]
    assert "level 1: 4 of 5 clusters stay empty" in caplog.text


@pytest.mark.parametrize("images", [3, 4])
def test_too_few_cells(tmp_path: Path, images: int) -> None:
    features = write_features(tmp_path / "features", {1: planted(1, images)[0]})
    if images == 4:
        assert run(features, tmp_path / "labels", [1])[1]["1"]["k_used"] == 2
        return
    with pytest.raises(InputError, match=r"level=1: 3 usable train cells, and clustering needs 4"):
        run(features, tmp_path / "labels", [1])
    assert not (tmp_path / "labels").exists()


def test_one_k_per_level(features: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has levels \[1, 2\], and pgg\.k has 3 values"):
        run(features, tmp_path / "labels", k=[3, 3, 3])


def test_a_damaged_shard_is_named(features: Artifact, tmp_path: Path) -> None:
    path = features.path / shard_name(2, 3)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"part-00003\.parquet.*dvc repro --force --single-item extract"):
        run(features, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("fault", ["label", "rows", "columns", "bytes"])
def test_reader_refuses_damaged_labels(features: Artifact, tmp_path: Path, fault: str) -> None:
    artifact, _ = run(features, tmp_path / "labels")
    path = artifact.path / "level=2.parquet"
    table = pq.ParquetFile(path).read()
    if fault == "label":
        table = table.set_column(3, "label", pa.array(np.full(len(table), TYPES, np.int32)))
    elif fault == "rows":
        table = table.slice(4, 9)
    elif fault == "columns":
        table = table.drop_columns(["margin"])
    if fault == "bytes":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        pq.write_table(table, path)
        (artifact.path / "manifest.json").unlink()
        with create_artifact(tmp_path / "relisted") as writer:
            writer.notes["stage"] = "cluster"
            for file in artifact.path.iterdir():
                (writer.path / file.name).write_bytes(file.read_bytes())
        artifact = open_artifact(tmp_path / "relisted")
    with pytest.raises(InputError, match=r"level=2\.parquet.*dvc repro --force --single-item cluster"):
        read_pseudo_labels(artifact)
