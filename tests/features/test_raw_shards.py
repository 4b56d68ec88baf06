from pathlib import Path

import numpy as np

from pipeline.features.raw_shards import RawShards


def test_only_whole_arrays_count(tmp_path: Path) -> None:
    shards = RawShards(tmp_path)
    vectors = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert not shards.is_finished(0)
    shards.save(0, vectors)
    assert shards.is_finished(0)
    np.testing.assert_array_equal(shards.load(0), vectors)
    path = tmp_path / "raw-00000.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    assert not shards.is_finished(0)
    path.write_bytes(data[:-1] + b"x")
    assert not shards.is_finished(0)
    path.unlink()
    assert not shards.is_finished(0)


def test_an_array_without_its_digest_does_not_count(tmp_path: Path) -> None:
    RawShards(tmp_path).save(3, np.zeros((1, 1, 1), np.float32))
    (tmp_path / "raw-00003.sha256").unlink()
    assert not RawShards(tmp_path).is_finished(3)
