import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.clustering.pyramid import read_pseudo_labels
from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, write_images
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import shard_name, write_shard
from pipeline.params import PggParams
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.runtime.interrupts import StopSignal
from pipeline.runtime.stage import Stage
from stages.cluster import FEATURES, IMAGES, cluster
from tests.run_params import run_params


def test_clusters_the_levels_of_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ids = [f"{n}.png" for n in range(12)]
    splits = ["train" if n < 9 else "val" for n in range(12)]
    rows = [ImageRow(name, split, name, 32, 32, "", "ok") for name, split in zip(ids, splits, strict=True)]
    Path(IMAGES).parent.mkdir(parents=True)
    write_images(Path(IMAGES), ImageTable(rows, Frame(32, "center"), 10**6, 1))
    with create_artifact(Path(FEATURES)) as writer:
        writer.notes["params"] = {"extract": {"levels": [1, 3]}}
        for level in (1, 3):
            vectors = np.random.default_rng(level).normal(size=(12, level * level, 4)).astype(np.float16)
            boxes = np.stack([cell_boxes(level, 32, 32)] * 12)
            write_shard(writer.path / shard_name(level, 0), ids, boxes, vectors, level, {})
    params = SimpleNamespace(pgg=PggParams(k=5, restarts=2, iterations=5, max_points_per_centroid=100, seed=0))
    run = run_params()
    features = {FEATURES: open_artifact(Path(FEATURES))}
    with create_artifact(Path("data/pseudo_labels")) as out:
        log = logging.getLogger("fs4.test")
        stage = Stage("cluster", params, run, features, out, tmp_path / "scratch", StopSignal(), log)
        cluster(stage)
    assert stage.counts == {"levels": 2, "cells": 120, "clusters": 9, "zero vectors": 0}  # 4 clipped, and 5
    read = read_pseudo_labels(open_artifact(Path("data/pseudo_labels")))
    assert {level: labels.k for level, labels in read.items()} == {1: 4, 3: 5}
    assert list(read[1].labels) == ids
