"""Rows 14 to 18: features that are broken, too few, or not of this run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from pipeline.clustering.kmeans import fit_kmeans
from pipeline.clustering.pyramid import read_pseudo_level
from pipeline.features.shards import read_shard, shard_name, write_shard
from pipeline.runtime.artifacts import open_artifact
from tests.faults.faulty import list_anew, make_photos, read_folder, refuse, rewrite
from tests.graph.project import Project

pytestmark = pytest.mark.graph


def change_shard(project: Project, level: int, part: int, change) -> None:
    """Give a shard other vectors, as another backbone would have, and list it in the manifest."""
    path = project.root / "data/features" / shard_name(level, part)
    shard = read_shard(path)
    vectors = change(shard.vectors.copy())
    path.unlink()
    noted = {key: value for key, value in shard.metadata.items() if key not in ("dimension", "level")}
    write_shard(path, shard.image_ids, shard.boxes, vectors, level, noted)
    list_anew(project.root / "data/features")


def statistics(project: Project) -> dict:
    return json.loads((project.root / "data/pseudo_labels/statistics.json").read_text())["levels"]


def test_row_14_features_that_are_not_finite(project: Project, built: Project) -> None:
    """Weights that overflow, so that features are NaN.

    Counted per image; above `extract.max_bad_fraction` exit code 3, with the image, the level and advice. They never
    reach k-means: shards that hold them are refused as well.
    """
    path = project.root / "data/backbone/weights.safetensors"
    whole = path.read_bytes()
    weights = load_file(path)
    name = next(name for name in sorted(weights) if name.startswith("decoder") and name.endswith("weight"))
    weights[name] = np.full_like(weights[name], 3e38)
    rewrite(path, save(weights))
    list_anew(path.parent)
    refuse(
        project,
        "extract",
        3,
        "are not finite at level 1 (source decoder); that makes",
        "extract.max_bad_fraction is 0.0: set extract.precision: fp32",
    )
    rewrite(path, whole)
    list_anew(path.parent)
    project.stage("extract")
    assert project.digests("features") == built.digests("features")
    change_shard(project, 2, 1, lambda vectors: np.where(vectors == vectors.max(), np.nan, vectors).astype(np.float16))
    refuse(project, "cluster", 3, "level=2/part-00001.parquet: holds values that are not finite")


def test_row_15_fewer_points_than_clusters(project: Project, tmp_path: Path) -> None:
    """Fewer train cells than clusters; fewer than four.

    The number of clusters is clipped with a line; below four cells exit code 3, naming the level.
    """
    assert "level 1: pgg.k 6 clipped" not in project.stage("cluster")
    root = make_photos(tmp_path / "photos", train=5, masks=False)
    read_folder(project, root)
    project.stage("prepare")
    project.stage("extract")
    assert "level 1: pgg.k 6 clipped to 2, half of its 5 train cells" in project.stage("cluster")
    assert statistics(project)["1"]["k_used"] == 2
    for number in (3, 4):
        (root / f"images/train/{number}.png").unlink()
    project.stage("prepare")
    project.stage("extract")
    refuse(project, "cluster", 3, "level=1: 3 usable train cells, and clustering needs 4; add images, or leave level 1")


def test_row_15_equal_and_zero_features(project: Project) -> None:
    """All features alike; feature vectors of length zero.

    Equal features leave clusters empty, which is said; a zero vector has no direction and gets the label for ignored.
    """
    for part in range(3):
        change_shard(project, 1, part, lambda vectors: np.ones_like(vectors) / np.float16(vectors.shape[2] ** 0.5))
    change_shard(project, 2, 0, lambda vectors: np.concatenate([np.zeros_like(vectors[:1]), vectors[1:]]))
    output = project.stage("cluster")
    assert "level 1: 5 of 6 clusters stay empty, equal features" in output
    assert "zero vectors 4" in output
    shard = read_shard(project.root / "data/features" / shard_name(2, 0))
    labels = read_pseudo_level(open_artifact(project.root / "data/pseudo_labels"), 2).labels
    assert (labels[shard.image_ids[0]] == -1).all()
    assert all((labels[name] >= 0).all() for name in shard.image_ids[1:])
    project.stage("train")


def test_row_16_empty_clusters() -> None:
    """Clusters that lose all their points.

    Started anew in the same way each time, and counted (`reseeded` in `statistics.json`); never silently fewer ids.
    """
    rng = np.random.default_rng(0)
    # most points coincide, and so do six of the centroids to start from
    points = np.concatenate([np.tile(rng.normal(size=8), (500, 1)), rng.normal(size=(30, 8))]).astype(np.float32)
    start = np.concatenate([points[:6], points[500:502]])
    found = [
        fit_kmeans(points, 8, spherical=True, iterations=1, restarts=1, seed=0, start=start.copy()) for _ in range(2)
    ]
    assert found[0].reseeded > 0
    assert (found[0].sizes > 0).all()
    assert found[0].centroids.tobytes() == found[1].centroids.tobytes()


def test_row_17_the_sample_for_k_means(project: Project) -> None:
    """More cells than k-means is allowed to be fitted on.

    A seeded sample with the same share of every image; how many cells it has is reported.
    """
    project.set_params({"pgg": {"k": 3, "max_points_per_centroid": 16}})
    output = project.stage("cluster")
    assert "3 clusters fitted on 48 of 192 train cells" in output
    first = project.digests("pseudo_labels")
    assert statistics(project)["4"]["rows_fitted"] == 48
    project.stage("cluster")
    assert project.digests("pseudo_labels") == first
    project.set_params({"pgg": {"seed": 1}})
    project.stage("cluster")
    assert project.digests("pseudo_labels") != first


def test_row_18_damaged_shards(project: Project, built: Project) -> None:
    """A shard of features that is truncated, has a flipped bit, is missing, extra, repeated, or of another run.

    Exit code 3, naming the shard and the command that rebuilds it; rebuilt, the run goes on.
    """
    folder = project.root / "data/features"
    first, second = folder / shard_name(4, 0), folder / shard_name(4, 1)
    whole = second.read_bytes()
    manifest = (folder / "manifest.json").read_bytes()
    rebuild = "dvc repro --force --single-item extract"

    rewrite(second, whole[:-100])
    refuse(project, "cluster", 3, f"{shard_name(4, 1)}: differs from its digest", rebuild)
    rewrite(second, whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    refuse(project, "cluster", 3, f"{shard_name(4, 1)}: differs from its digest", rebuild)
    second.unlink()
    refuse(project, "cluster", 3, f"{shard_name(4, 1)}: missing, though the manifest lists it", rebuild)
    second.write_bytes(whole)
    extra = folder / shard_name(4, 9)
    shutil.copy(first, extra)
    refuse(project, "cluster", 3, f"{shard_name(4, 9)}: not listed in the manifest (from another run?)", rebuild)
    extra.unlink()
    rewrite(second, first.read_bytes())
    list_anew(folder)
    refuse(project, "cluster", 3, f"{shard_name(4, 1)}: repeats images of an earlier shard", rebuild)
    rewrite(second, whole)
    shard = read_shard(second)
    second.unlink()
    noted = {**shard.metadata, "backbone": "0" * 64}
    write_shard(second, shard.image_ids, shard.boxes, shard.vectors, 4, noted)
    list_anew(folder)
    refuse(project, "cluster", 3, f"{shard_name(4, 1)}: comes from another run", "(other backbone)", rebuild)

    project.stage("extract")
    assert (folder / "manifest.json").read_bytes() == manifest
    project.stage("cluster")
    assert project.digests() == built.digests()
