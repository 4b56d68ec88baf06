import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.features.store import FeatureStore, limit_stores, store_name
from pipeline.params import ExtractParams

KEYS = [f"{n:064x}" for n in range(9)]
VECTORS = np.random.default_rng(0).normal(size=(9, 5, 4)).astype(np.float32)


def fill(folder: Path) -> FeatureStore:
    store = FeatureStore(folder)
    for part in (slice(0, 4), slice(4, 7)):
        store.add(KEYS[part], VECTORS[part])
    return store


@pytest.mark.parametrize("reopened", [False, True])
def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path, reopened: bool) -> None:
    store = fill(tmp_path)
    if reopened:
        store = FeatureStore(tmp_path)
    assert len(store) == 7
    assert [key in store for key in KEYS] == [True] * 7 + [False] * 2
    order = [6, 0, 3, 4, 0]
    np.testing.assert_array_equal(store.load([KEYS[n] for n in order]), VECTORS[order])
    with pytest.raises(KeyError):
        store.load([KEYS[8]])


def test_more_is_added_behind_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path)
    FeatureStore(tmp_path).add(KEYS[7:], VECTORS[7:])
    np.testing.assert_array_equal(FeatureStore(tmp_path).load(KEYS), VECTORS)


@pytest.mark.parametrize("name", ["raw-00000.npy", "raw-00000.keys", "raw-00000.sha256"])
def test_a_file_that_is_not_whole_does_not_count(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2 // 65 * 65])
    store = FeatureStore(tmp_path)
    assert len(store) == 3
    store.add(KEYS[:4], VECTORS[:4])
    np.testing.assert_array_equal(FeatureStore(tmp_path).load(KEYS[:7]), VECTORS[:7])


def test_as_many_vectors_as_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 images, but features of 3"):
        FeatureStore(tmp_path).add(KEYS[:2], VECTORS[:3])


def test_the_name_stands_for_what_the_backbone_computes() -> None:
    values = {"levels": [1, 2], "mode": "pool", "source": "decoder", "pca": 0, "batch_size": 2}
    values |= {"shard_images": 3, "precision": "fp32", "max_bad_fraction": 0.0}

    def name(*others: str, **changes: object) -> str:
        return store_name(ExtractParams.model_validate(values | changes), *(others or ("backbone",)))

    assert name() == name(pca=4) == name(shard_images=9) == name(max_bad_fraction=0.5)
    changes = [{"levels": [1]}, {"mode": "crop"}, {"source": "res4"}, {"batch_size": 4}, {"precision": "bf16"}]
    assert len({name(), name("other"), *(name(**change) for change in changes)}) == 7


@pytest.mark.parametrize(("room", "kept"), [(3.5, "abc"), (3.0, "abc"), (2.9, "bc"), (2, "bc"), (0.5, "b")])
def test_stores_beyond_the_limit_go_the_one_used_longest_ago_first(tmp_path: Path, room: float, kept: str) -> None:
    for used, name in enumerate("bac", start=1):
        fill(tmp_path / name)
        os.utime(tmp_path / name, (used, used))
    (tmp_path / "no-store").write_text("")
    limit_stores(tmp_path / "b", room * sum(path.stat().st_size for path in (tmp_path / "b").iterdir()))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == list(kept)
    np.testing.assert_array_equal(FeatureStore(tmp_path / "b").load(KEYS[:7]), VECTORS[:7])
