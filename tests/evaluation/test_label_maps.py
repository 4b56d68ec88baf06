import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation import label_maps
from pipeline.evaluation.label_maps import LabelMapWriter, decode_labels, encode_labels, iterate_label_maps
from pipeline.runtime.artifacts import create_artifact, open_artifact

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(
    hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 65535))
    | hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 255))
)
def test_maps_come_back_exactly(labels):
    decoded = decode_labels(encode_labels(labels))
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, labels)


@pytest.mark.parametrize(("largest", "mode"), [(0, "L"), (255, "L"), (256, "I;16"), (65535, "I;16")])
def test_the_width_of_the_png_follows_the_ids(largest, mode):
    png = encode_labels(np.array([[0, largest]]))
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.mode == mode
    assert encode_labels(np.array([[0, largest]])) == png


def fill(folder, count: int, per_shard: int, monkeypatch) -> dict[str, int]:
    monkeypatch.setattr(label_maps, "PER_SHARD", per_shard)
    with create_artifact(folder) as writer:
        maps = LabelMapWriter(writer.path, writer.rows)
        for number in range(count):
            maps.add(f"train/{number}.png", "train", encode_labels(np.full((4, 6), number)))
        maps.flush()
        return dict(writer.rows)


@pytest.mark.parametrize(("count", "shards"), [(0, []), (2, [2]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_shards_are_bounded_and_read_in_order(tmp_path, monkeypatch, count, shards):
    rows = fill(tmp_path / "out", count, 3, monkeypatch)
    assert list(rows.values()) == shards
    assert list(rows) == [f"label_maps/part-{number:05d}.parquet" for number in range(len(shards))]
    shown = iterate_label_maps(open_artifact(tmp_path / "out"))
    read = [(each.image_id, each.split, each.decode()) for each in shown]
    assert [image_id for image_id, _, _ in read] == [f"train/{number}.png" for number in range(count)]
    for number, (_, split, labels) in enumerate(read):
        assert split == "train"
        np.testing.assert_array_equal(labels, np.full((4, 6), number))


def test_shards_hold_what_the_format_says(tmp_path, monkeypatch):
    fill(tmp_path / "out", 2, 5, monkeypatch)
    table = pq.read_table(tmp_path / "out" / "label_maps" / "part-00000.parquet")
    assert table.schema.names == ["image_id", "split", "png"]
    assert table["png"][1].as_py() == encode_labels(np.full((4, 6), 1))


def test_a_damaged_shard_is_named(tmp_path, monkeypatch):
    fill(tmp_path / "out", 4, 3, monkeypatch)
    path = tmp_path / "out" / "label_maps" / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"part-00001\.parquet: differs from its digest"):
        list(iterate_label_maps(open_artifact(tmp_path / "out")))


def test_a_shard_that_is_no_parquet_is_named(tmp_path):
    with create_artifact(tmp_path / "out") as writer:
        (writer.path / "label_maps").mkdir()
        (writer.path / "label_maps" / "part-00000.parquet").write_bytes(b"text")
    with pytest.raises(InputError, match=r"part-00000\.parquet: cannot be read .*--single-item evaluate"):
        list(iterate_label_maps(open_artifact(tmp_path / "out")))
