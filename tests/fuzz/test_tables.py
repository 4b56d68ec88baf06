"""Any bytes and any tables in place of the Parquet files, weights and checkpoints that stages hand on."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from pipeline.backbones.encoder import load_weights
from pipeline.backbones.foreign import read_tensors
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
from pipeline.features.shards import read_shard, write_shard
from pipeline.training.checkpoints import Checkpoints
from tests.fuzz.cases import judge, tried
from tests.fuzz.damage import TEXT, damaged, flipped

ROWS = [ImageRow(f"train/{n}.png", "train", f"/photos/{n}.png", 40 + n, 30, f"{n:064x}", "ok") for n in range(5)]
IMAGES = ImageTable(ROWS, Frame(64, "center", 32), 10**6, 16)
TRUTH = TruthTable(
    [TruthRow(row.image_id, row.split, f"{row.path}-mask", row.sha256) for row in ROWS], '{"classes": []}'
)
VECTORS = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float16)
BOXES = np.arange(48, dtype=np.float32).reshape(3, 4, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_images(folder / "images.parquet", IMAGES)
    write_truth(folder / "truth.parquet", TRUTH)
    write_shard(folder / "shard.parquet", ["a", "b", "c"], BOXES, VECTORS, 2, {"backbone": "abc"})
    for name in ("images", "truth", "shard"):
        (folder / f"{name}.whole").write_bytes((folder / f"{name}.parquet").read_bytes())
    return folder


@given(data=st.data(), kind=st.sampled_from(["images", "truth"]))
@tried("tables")
def test_any_table(folder: Path, data: st.DataObject, kind: str) -> None:
    path, whole = folder / f"{kind}.parquet", (folder / f"{kind}.whole").read_bytes()
    read, expected = (read_images, IMAGES) if kind == "images" else (read_truth, TRUTH)
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(whole) | flipped(whole)))
    else:
        path.write_bytes(whole)
        pq.write_table(changed(data, pq.ParquetFile(path).read()), path)
    found = judge("tables", lambda: read(path), names=str(path))
    # a change that nobody reads, such as of statistics, may pass; another content never
    assert found is None or found == expected


def changed(data: st.DataObject, table: pa.Table) -> pa.Table:
    """Another table: columns re-ordered, of other types, dropped, renamed or with holes; rows and notes changed."""
    column = data.draw(st.integers(0, table.num_columns - 1))
    name = table.column_names[column]
    match data.draw(st.integers(0, 7)):
        case 0:
            return table.select(data.draw(st.permutations(table.column_names)))
        case 1:
            kind = data.draw(st.sampled_from([pa.int64(), pa.binary(), pa.large_string(), pa.float32()]))
            values = [0 if kind in (pa.int64(), pa.float32()) else str(n).encode() for n in range(len(table))]
            return table.set_column(column, name, pa.array(values).cast(kind))
        case 2:
            return table.drop_columns([name])
        case 3:
            return table.rename_columns(
                [data.draw(TEXT.filter(_is_text)) if n == name else n for n in table.column_names]
            )
        case 4:
            return table.set_column(column, name, pa.nulls(len(table), table.schema.field(name).type))
        case 5:
            return table.slice(0, data.draw(st.integers(0, len(table))))
        case 6:
            return table.take(data.draw(st.permutations(range(len(table)))))
        case _:
            noted = dict(table.schema.metadata or {})
            noted[data.draw(st.sampled_from(sorted(noted)))] = data.draw(st.binary(max_size=20))
            return table.replace_schema_metadata(noted)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@given(data=st.data())
@tried("shards")
def test_any_shard(folder: Path, data: st.DataObject) -> None:
    path, whole = folder / "shard.parquet", (folder / "shard.whole").read_bytes()
    hurt = data.draw(st.booleans())
    if hurt:
        path.write_bytes(data.draw(damaged(whole) | flipped(whole)))
    else:
        path.write_bytes(whole)
        pq.write_table(changed(data, pq.ParquetFile(path).read()), path)
    shard = judge("shards", lambda: read_shard(path), names=str(path))
    if shard is not None:
        # what the manifest's digest vouches for is not looked at here; the shape always is
        assert shard.vectors.shape == (len(shard.image_ids), shard.level**2, shard.metadata["dimension"])
        assert np.isfinite(shard.vectors).all()
        if hurt and shard.level == 2:
            np.testing.assert_array_equal(shard.vectors, VECTORS)


class Net(nn.Module):
    """A network of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))


STATE = {"linear.weight": torch.ones(2, 3), "linear.bias": torch.ones(2), "count": torch.ones(2, dtype=torch.int64)}
KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


@given(data=st.data())
@tried("weights")
def test_any_weights(folder: Path, data: st.DataObject) -> None:
    path = folder / "weights.safetensors"
    state = dict(STATE)
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from([*state, "other"]))
        shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
        state[key] = torch.ones(shape, dtype=data.draw(st.sampled_from(KINDS)))
    path.write_bytes(data.draw(st.just(save(state)) | damaged(save(state))))
    net = Net()

    def load() -> bool:
        load_weights(net, path)
        return True

    if judge("weights", load, names=str(path)):
        assert {key: (value.shape, value.dtype) for key, value in net.state_dict().items()} == {
            key: (value.shape, value.dtype) for key, value in STATE.items()
        }


@given(data=st.data(), ending=st.sampled_from(["safetensors", "pt"]))
@tried("foreign")
def test_any_foreign_weights(folder: Path, data: st.DataObject, ending: str) -> None:
    path = folder / f"foreign.{ending}"
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3}, buffer)
    whole = save(STATE) if ending == "safetensors" else buffer.getvalue()
    path.write_bytes(data.draw(damaged(whole) | flipped(whole) | st.binary(max_size=60)))
    tensors = judge("foreign", lambda: read_tensors(path), names=str(path))
    assert tensors is None or all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@given(data=st.data())
@tried("checkpoints")
def test_any_checkpoint(folder: Path, data: st.DataObject) -> None:
    checkpoints = Checkpoints(folder / "state")
    checkpoints.save(0, 1, {"value": torch.arange(4.0)})
    checkpoints.save(0, 2, {"value": torch.arange(4.0)})
    newest = folder / "state/checkpoint-00000-0000002.pt"
    newest.write_bytes(data.draw(damaged(newest.read_bytes()) | flipped(newest.read_bytes()) | st.binary(max_size=50)))
    state = judge("checkpoints", checkpoints.load)
    assert state is not None
    assert state["step"] in (1, 2)
    assert torch.equal(state["value"], torch.arange(4.0))
