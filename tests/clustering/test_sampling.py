from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clustering.sampling import count_cells, gather_cells, sample_rows
from pipeline.features.shards import shard_name, write_shard
from pipeline.runtime.artifacts import create_artifact, open_artifact


@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=30), data=st.data())
def test_sample_takes_the_same_share_of_every_image(counts: list[int], data: st.DataObject) -> None:
    everything = sum(counts)
    total = data.draw(st.integers(0, everything + 5))
    rows = sample_rows(counts, total, seed=data.draw(st.integers(0, 3)))
    assert len(rows) == min(total, everything)
    assert (np.diff(rows) > 0).all()
    image = np.repeat(np.arange(len(counts)), counts)
    taken = np.bincount(image[rows], minlength=len(counts))
    assert (np.abs(taken - np.array(counts) * len(rows) / max(1, everything)) < 1).all()


def test_sample_is_seeded() -> None:
    first, again, other = (sample_rows([50] * 20, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    images = {tuple(sample_rows([1] * 30, 10, seed).tolist()) for seed in range(9)}
    assert len(images) > 1


def test_cells_are_counted_and_gathered_across_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 4, 3)).astype(np.float16)
    vectors[1, 2] = vectors[5] = 0
    names = [f"{n}.png" for n in range(7)]
    with create_artifact(tmp_path / "features") as writer:
        for part, rows in enumerate((slice(0, 3), slice(3, 4), slice(4, 7))):
            boxes = np.zeros((len(names[rows]), 4, 4), np.float32)
            write_shard(writer.path / shard_name(2, part), names[rows], boxes, vectors[rows], 2, {})
    features = open_artifact(tmp_path / "features")
    used = set(names) - {"0.png"}
    assert count_cells(features, used, 2) == [3, 4, 4, 4, 0, 4]
    everything = vectors[1:].reshape(-1, 3)
    everything = everything[everything.any(axis=1)].astype(np.float32)
    chosen = np.array([0, 2, 3, 8, 15, 18])
    gathered = gather_cells(features, used, 2, chosen)
    assert gathered.dtype == np.float32
    np.testing.assert_array_equal(gathered, everything[chosen])
