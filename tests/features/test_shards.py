import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import iterate_level, read_shard, shard_name, write_shard
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact

REBUILD = "dvc repro --force --single-item extract"
LEVEL, D = 2, 6


def vectors_of(images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, LEVEL * LEVEL, D)).astype(np.float16)


def write(path: Path, ids: list[str], seed: int = 0, backbone: str = "abc") -> int:
    boxes = np.stack([cell_boxes(LEVEL, 32, 64)] * len(ids))
    return write_shard(path, ids, boxes, vectors_of(len(ids), seed), LEVEL, {"backbone": backbone})


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder of three shards of two images each."""
    with create_artifact(tmp_path / "features") as writer:
        writer.notes["stage"] = "extract"
        for part in range(3):
            name = shard_name(LEVEL, part)
            writer.rows[name] = write(writer.path / name, [f"{part}a.png", f"{part}b.png"], part)
    return tmp_path / "features"


def note_as_listed(folder: Path) -> Artifact:
    """Make the manifest agree with what lies there, as a faulty writer would."""
    shutil.copytree(folder, copy := folder.with_name("listed"))
    (copy / "manifest.json").unlink()
    with create_artifact(folder.with_name("relisted")) as writer:
        writer.notes["stage"] = "extract"
        shutil.copytree(copy, writer.path, dirs_exist_ok=True)
    return open_artifact(folder.with_name("relisted"))


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "level=2" / "part-00000.parquet"
    assert write(path, ["é b.png", "a\nb.png"]) == 8
    shard = read_shard(path)
    assert shard.image_ids == ["é b.png", "a\nb.png"]
    assert shard.level == LEVEL
    assert shard.metadata == {"backbone": "abc", "dimension": D, "level": LEVEL}
    assert shard.vectors.dtype == np.float16
    np.testing.assert_array_equal(shard.vectors, vectors_of(2))
    np.testing.assert_array_equal(shard.boxes[1], cell_boxes(LEVEL, 32, 64))
    assert (shard.rows.tolist(), shard.cols.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
    assert not shard.vectors.flags.owndata
    assert pq.read_schema(path).names == ["image_id", "row", "col", "y0", "x0", "y1", "x1", "vector"]


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, ["a", "b", "c"])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_refuses_to_write_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the features of level 3"):
        write_shard(tmp_path / "x", ["a"], np.zeros((1, 4, 4), np.float32), vectors_of(1), 3, {})


def test_iterates_in_order(features: Path) -> None:
    shards = list(iterate_level(open_artifact(features), LEVEL))
    assert [shard.image_ids[0] for shard in shards] == ["0a.png", "1a.png", "2a.png"]
    np.testing.assert_array_equal(shards[2].vectors, vectors_of(2, 2))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "extra"])
def test_damage_is_named(features: Path, damage: str) -> None:
    path = features / shard_name(LEVEL, 1)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[:-7])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "missing":
        path.unlink()
    else:
        path = features / shard_name(LEVEL, 3)
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(iterate_level(open_artifact(features), LEVEL))
    assert str(path) in str(caught.value)
    assert REBUILD in str(caught.value)


def test_page_checksums_find_a_flipped_bit_of_the_vectors(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    write(path, ["a", "b"])
    column = pq.ParquetFile(path).metadata.row_group(0).column(7)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable shard") as caught:
        read_shard(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("foreign", r"another run than .* \(other backbone\)"),
        ("repeated", "repeats images of an earlier shard, such as 0a.png"),
        ("gap", "part-00001.parquet: this shard is missing"),
        ("level", "holds level 2 in the folder of level 1"),
    ],
)
def test_faults_that_the_manifest_cannot_see(features: Path, fault: str, complaint: str) -> None:
    level = LEVEL
    path = features / shard_name(LEVEL, 1)
    if fault == "foreign":
        write(path, ["1a.png", "1b.png"], backbone="other")
    elif fault == "repeated":
        shutil.copy(features / shard_name(LEVEL, 0), path)
    elif fault == "gap":
        path.unlink()
    else:
        level = 1
        (features / "level=1").mkdir()
        shutil.copy(path, features / shard_name(1, 0))
    with pytest.raises(InputError, match=complaint) as caught:
        list(iterate_level(note_as_listed(features), level))
    assert REBUILD in str(caught.value)


def test_rows_must_agree_with_the_manifest(features: Path) -> None:
    path = features / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][shard_name(LEVEL, 2)]["rows"] = 7
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"part-00002\.parquet: has 8 rows, 7 by the manifest"):
        list(iterate_level(open_artifact(features), LEVEL))


def test_absent_level(features: Path) -> None:
    with pytest.raises(InputError, match="level=16: there are no features"):
        list(iterate_level(open_artifact(features), 16))


def rewrite(path: Path, change: str) -> None:
    table = pq.ParquetFile(path).read()
    metadata = dict(table.schema.metadata)
    if change == "dtype":
        wide = table["vector"].combine_chunks().flatten().cast(pa.float32())
        table = table.set_column(7, "vector", pa.FixedSizeListArray.from_arrays(wide, D))
    elif change == "dimension":
        metadata[b"dimension"] = b"5"
    elif change == "cells":
        table = table.slice(0, 7)
    elif change == "order":
        table = table.take([1, 0, 2, 3, 4, 5, 6, 7])
    elif change == "interleaved":
        table = table.take([0, 1, 2, 7, 4, 5, 6, 3])
    elif change == "notes":
        metadata = {}
    else:
        values = table["vector"].combine_chunks().flatten().to_numpy().copy()
        values[3] = np.nan
        table = table.set_column(7, "vector", pa.FixedSizeListArray.from_arrays(pa.array(values), D))
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("dtype", "expected float16 vectors of 6"),
        ("dimension", "expected float16 vectors of 5"),
        ("cells", "not 4 cells for each image"),
        ("order", "not 4 cells for each image"),
        ("interleaved", "not 4 cells for each image"),
        ("notes", "'dimension' is not noted"),
        ("nan", "not finite"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, change: str, complaint: str) -> None:
    path = tmp_path / "shard.parquet"
    write(path, ["a", "b"])
    rewrite(path, change)
    with pytest.raises(InputError, match=complaint) as caught:
        read_shard(path)
    assert str(path) in str(caught.value)
    assert REBUILD in str(caught.value)


def test_text_is_not_a_shard(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("<html>")
    with pytest.raises(InputError, match="not a readable shard"):
        read_shard(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="missing"):
        read_shard(tmp_path / "y.parquet")
