"""Pyramid features on disk: Parquet shards per level, checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.runtime.artifacts import Artifact
from pipeline.runtime.distributed import ALONE, Ranks

BOX = ("y0", "x0", "y1", "x1")
FINITE_PART = 2**16  # values that are looked at together


@dataclass(frozen=True)
class Shard:
    """The features of some images at one level.

    Attributes:
        image_ids: One per image (n), in the order of `images.parquet`.
        boxes: float32 (n, cells, 4): y0, x0, y1, x1 in pixels of the frame.
        vectors: float16 (n, cells, D), of unit norm or zero; read-only when it came from a file.
        level: Cells a side; cells = level * level, rows of cells first.
        metadata: What is noted in the file: dimension, level, source, mode, backbone, versions.
    """

    image_ids: list[str]
    boxes: np.ndarray
    vectors: np.ndarray
    level: int
    metadata: dict[str, Any]

    @property
    def rows(self) -> np.ndarray:
        """Row of each cell in the grid, int16 (cells,)."""
        return grid_positions(self.level)[0]

    @property
    def cols(self) -> np.ndarray:
        """Column of each cell in the grid, int16 (cells,)."""
        return grid_positions(self.level)[1]


def shard_name(level: int, part: int) -> str:
    """Name of a shard below `data/features`."""
    return f"level={level}/part-{part:05d}.parquet"


def grid_positions(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells of a level in the order in which all tables list them, int16 (cells,) each."""
    row, column = np.indices((level, level), dtype=np.int16)
    return row.ravel(), column.ravel()


def cell_columns(image_ids: Sequence[str], level: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The columns image_id, row and col of a table with one row per cell of each image."""
    row, column = grid_positions(level)
    repeats = pa.array(np.repeat(np.arange(len(image_ids)), level * level))
    return (
        pa.array(image_ids, pa.string()).take(repeats),
        pa.array(np.tile(row, len(image_ids))),
        pa.array(np.tile(column, len(image_ids))),
    )


def image_ids_of_cells(table: pa.Table, level: int) -> list[str]:
    """The images of a table with one row per cell, checked to be whole grids in order.

    Raises:
        ValueError: A cell is missing, repeated or out of order, or an image comes twice.
    """
    cells = level * level
    images, excess = divmod(table.num_rows, cells)
    coded = _combined(table["image_id"]).dictionary_encode()
    row, column = grid_positions(level)
    whole = (
        not excess
        and not coded.null_count
        # codes count up at the first appearance of an id
        and np.array_equal(coded.indices.to_numpy(), np.repeat(np.arange(images), cells))
        and np.array_equal(table["row"].to_numpy(), np.tile(row, images))
        and np.array_equal(table["col"].to_numpy(), np.tile(column, images))
    )
    if not whole:
        raise ValueError(f"its rows are not {cells} cells for each image, each image once")
    return coded.dictionary.to_pylist()


def write_shard(
    path: Path,
    image_ids: Sequence[str],
    boxes: np.ndarray,
    vectors: np.ndarray,
    level: int,
    metadata: Mapping[str, Any],
) -> int:
    """Write one shard; equal values are equal bytes.

    Args:
        path: The file; its folder is made if missing.
        image_ids: One per image (n).
        boxes: float32 (n, cells, 4), see `Shard`.
        vectors: float16 (n, cells, D).
        level: Cells a side.
        metadata: Plain values to be noted beside the dimension and the level.

    Returns:
        Number of rows, n * cells.
    """
    images, cells, dimension = vectors.shape
    if vectors.dtype != np.float16 or boxes.shape != (images, cells, 4) or cells != level * level:
        raise ValueError(f"not the features of level {level}: {vectors.dtype} {vectors.shape}, {boxes.shape}")
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    corners = np.ascontiguousarray(boxes, dtype=np.float32).reshape(-1, 4)
    arrays = [
        *cell_columns(image_ids, level),
        *(pa.array(np.ascontiguousarray(corners[:, side])) for side in range(4)),
        pa.FixedSizeListArray.from_arrays(flat, dimension),
    ]
    noted = {**metadata, "dimension": dimension, "level": level}
    encoded = {key: json.dumps(noted[key], sort_keys=True, allow_nan=False) for key in sorted(noted)}
    table = pa.Table.from_arrays(arrays, schema=_schema(dimension).with_metadata(encoded))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        path,
        row_group_size=max(1, len(table)),
        compression="zstd",
        use_dictionary=["image_id"],
        write_page_checksum=True,
    )
    return table.num_rows


def read_shard(path: Path) -> Shard:
    """Read and check one shard.

    Args:
        path: A file that `write_shard` wrote.

    Returns:
        The shard; `vectors` is a view of what Arrow read.

    Raises:
        InputError: It is missing, damaged, of another schema, incomplete, or holds values that are not finite.
    """
    try:
        # not `read_table`, which would take the folder's name level=1 for a column
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        noted = {key.decode(): json.loads(value) for key, value in (table.schema.metadata or {}).items()}
        dimension, level = int(noted["dimension"]), int(noted["level"])
        if not table.schema.equals(_schema(dimension), check_metadata=False):
            found = ", ".join(f"{field.name} {field.type}" for field in table.schema)
            raise ValueError(f"its columns are {found}; expected float16 vectors of {dimension} values")
        image_ids = image_ids_of_cells(table, level)
        if table["vector"].null_count:
            raise ValueError("it has empty vectors")
        vectors = _combined(table["vector"]).flatten().to_numpy(zero_copy_only=True)
    except FileNotFoundError:
        raise _unusable(path, "missing") from None
    except KeyError as error:
        raise _unusable(path, f"not a shard of features ({error} is not noted in it)") from None
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise _unusable(path, f"not a readable shard ({str(error).splitlines()[0][:200]})") from None
    if not _all_finite(vectors):
        raise _unusable(path, "holds values that are not finite")
    shape = (len(image_ids), level * level)
    boxes = np.stack([table[side].to_numpy() for side in BOX], axis=1)
    return Shard(image_ids, boxes.reshape(*shape, 4), vectors.reshape(*shape, dimension), level, noted)


def iterate_level(features: Artifact, level: int, ranks: Ranks = ALONE) -> Iterator[Shard]:
    """Read the shards of one level in order, one at a time.

    Args:
        features: The opened folder `data/features`.
        level: Cells a side.
        ranks: The processes that share the shards; only one's own are read, and compared with each other.

    Yields:
        Each shard, after its digest, its rows and its agreement with the other shards were checked.

    Raises:
        InputError: A shard is missing, damaged, of another run or level, or repeats images; it is named.
    """
    listed = features.manifest["files"]
    names = _shard_names(features, level)
    if not names:
        raise _unusable(features.path / f"level={level}", "there are no features of this level")
    first: Shard | None = None
    seen: set[str] = set()
    for part, name in ranks.own(list(enumerate(names))):
        path = features.path / name
        if name != shard_name(level, part):
            raise _unusable(features.path / shard_name(level, part), "this shard is missing between others")
        shard = read_shard(features.file(name))
        first = first or shard
        if shard.level != level:
            raise _unusable(path, f"holds level {shard.level} in the folder of level {level}")
        if shard.metadata != first.metadata:
            differing = sorted(
                key
                for key in shard.metadata.keys() | first.metadata.keys()
                if shard.metadata.get(key) != first.metadata.get(key)
            )
            raise _unusable(path, f"comes from another run than {names[0]} (other {', '.join(differing)})")
        if (rows := listed[name].get("rows", shard.vectors[..., 0].size)) != shard.vectors[..., 0].size:
            raise _unusable(path, f"has {shard.vectors[..., 0].size} rows, {rows} by the manifest")
        if repeated := seen.intersection(shard.image_ids):
            raise _unusable(path, f"repeats images of an earlier shard, such as {min(repeated)}")
        seen.update(shard.image_ids)
        yield shard


def count_shards(features: Artifact, level: int) -> int:
    """How many shards a level has."""
    return len(_shard_names(features, level))


def _shard_names(features: Artifact, level: int) -> list[str]:
    return sorted(name for name in features.manifest["files"] if Path(name).match(f"level={level}/part-*.parquet"))


def _all_finite(halves: np.ndarray) -> bool:
    # several times faster than np.isfinite, which converts float16; in parts that stay in the processor's cache
    exponents = np.uint16(0x7C00)
    bits = halves.view(np.uint16)
    parts = (bits[first : first + FINITE_PART] for first in range(0, len(bits), FINITE_PART))
    return not any(((part & exponents) == exponents).any() for part in parts)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    # `combine_chunks` copies a single chunk as well
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("row", pa.int16()),
            ("col", pa.int16()),
            *((side, pa.float32()) for side in BOX),
            ("vector", pa.list_(pa.float16(), dimension)),
        ]
    )


def _unusable(path: Path, problem: str) -> InputError:
    return InputError(f"{path}: {problem}; rebuild it with `dvc repro --force --single-item extract`")
