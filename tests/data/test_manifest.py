from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.bands import Bands
from pipeline.data.frames import Frame
from pipeline.data.manifest import (
    ImageRow,
    ImageTable,
    TruthRow,
    TruthTable,
    read_images,
    read_truth,
    write_images,
    write_truth,
)
from pipeline.errors import InputError
from pipeline.runtime.digests import value_digest


def row(split: str, name: str, sha256: str = "", verdict: str = "ok") -> ImageRow:
    return ImageRow(f"{split}/{name}", split, f"data/{split}/{name}", 40, 30, sha256 or name, verdict)


ROWS = [row("train", "a.jpg"), row("train", "ü b.jpg", verdict="truncated"), row("val", "a.jpg", "v")]
TABLE = ImageTable(ROWS, Frame(64, "none"), max_pixels=10**10, min_side=16)
BANDS = Bands("uint16", (1.0, 2.5), (300.0, 400.0), (0.25, 0.5), (0.125, 0.1))
MANY = ImageTable(ROWS, Frame(64, "none"), max_pixels=10**10, min_side=16, bands=BANDS)
CUT = ImageTable(ROWS, Frame(100, "center", 64), max_pixels=10**10, min_side=16)
TRUTH = TruthTable([TruthRow("train/a.jpg", "train", "m/a.png", "5")], '{"classes": []}')


def test_images_survive_the_file_whatever_their_order(tmp_path):
    write_images(tmp_path / "one.parquet", TABLE)
    assert read_images(tmp_path / "one.parquet") == TABLE
    write_images(tmp_path / "cut.parquet", CUT)
    assert read_images(tmp_path / "cut.parquet") == CUT
    write_images(tmp_path / "many.parquet", MANY)
    assert read_images(tmp_path / "many.parquet") == MANY
    assert (TABLE.channels, MANY.channels) == (3, 2)
    shuffled = ImageTable(ROWS[::-1], TABLE.frame, TABLE.max_pixels, TABLE.min_side)
    write_images(tmp_path / "two.parquet", shuffled)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_truth_survives_the_file_also_without_rows_or_classes(tmp_path):
    write_truth(tmp_path / "truth.parquet", TRUTH)
    assert read_truth(tmp_path / "truth.parquet") == TRUTH
    write_truth(tmp_path / "truth.parquet", TruthTable([], None))
    assert read_truth(tmp_path / "truth.parquet") == TruthTable([], None)
    write_truth(tmp_path / "truth.parquet", TruthTable(TRUTH.rows, None, 7))
    assert read_truth(tmp_path / "truth.parquet") == TruthTable(TRUTH.rows, None, 7)


def test_select_leaves_rejected_images_out():
    assert TABLE.select("train") == [ROWS[0]]
    assert TABLE.select(None) == [ROWS[0], ROWS[2]]
    assert TABLE.select("test") == []
    assert TABLE.splits == ["train", "val"]


def test_leaks_are_equal_bytes_in_train_and_elsewhere():
    rows = [row("test", "x", "1"), row("train", "b", "1"), row("train", "c", "1"), row("val", "d", "2")]
    rejected = [row("train", "e", "2", "truncated")]
    table = ImageTable(rows + rejected, Frame(64, "none"), 1, 1)
    assert table.find_leaked() == [(rows[0], rows[1])]


def assert_unusable(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_images(path)
    assert str(path) in str(caught.value)
    assert "dvc repro --force --single-item prepare" in str(caught.value)


def test_missing_and_foreign_tables_are_named(tmp_path):
    path = tmp_path / "images.parquet"
    assert_unusable(path, "missing")
    path.write_bytes(b"not parquet")
    assert_unusable(path, "not a readable Parquet file")
    pq.write_table(pa.table({"image_id": ["a"]}), path)
    assert_unusable(path, "columns")
    write_truth(path, TRUTH)
    assert_unusable(path, "columns")
    write_images(path, TABLE)
    table = pq.ParquetFile(path).read()
    notes = {"frame": '{"resize": 5, "crop": "none", "crop_size": 0}'}
    for damaged in ({}, notes):
        pq.write_table(table.replace_schema_metadata(damaged), path)
        assert_unusable(path, "differs from the digest")
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    pq.write_table(table.replace_schema_metadata({**notes, "content_sha256": value_digest([rows, notes])}), path)
    assert_unusable(path, "frame")
    pq.write_table(table.set_column(1, "split", pa.array([None, "a", "b"], pa.string())), path)
    assert_unusable(path, "empty cells")


def test_damage_is_never_read_as_data(tmp_path):
    path = tmp_path / "images.parquet"
    write_images(path, TABLE)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            rows = read_images(path).rows
        except InputError:
            continue
        assert rows == TABLE.rows  # the flip hit what carries no data, such as statistics
    path.write_bytes(whole[: len(whole) // 2])
    assert_unusable(path, "not a readable")


def test_a_truth_table_that_lost_its_notes_is_refused(tmp_path):
    path = tmp_path / "truth.parquet"
    write_truth(path, TRUTH)
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata({}), path)
    with pytest.raises(InputError, match="differs from the digest"):
        read_truth(path)
