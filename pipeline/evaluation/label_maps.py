"""Label maps in Parquet shards: one PNG of cluster ids per image."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.data.manifest import check_id
from pipeline.errors import InputError
from pipeline.runtime.artifacts import Artifact

SCHEMA = pa.schema([("image_id", pa.string()), ("split", pa.string()), ("png", pa.binary())])
PER_SHARD = 512
ROWS_AT_ONCE = 32
FOLDER = "label_maps"


class LabelMapWriter:
    """Writes `label_maps/part-NNNNN.parquet` below a folder, a bounded number of images at a time."""

    def __init__(self, out: Path, rows: dict[str, int]) -> None:
        self._out, self._rows, self._shard = out, rows, 0
        self._pending: list[dict[str, Any]] = []
        (out / FOLDER).mkdir()

    def add(self, image_id: str, split: str, png: bytes) -> None:
        """Add one map of `encode_labels`; maps come in the order of `images.parquet`."""
        self._pending.append({"image_id": image_id, "split": split, "png": png})
        if len(self._pending) == PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if not self._pending:
            return
        name = f"{FOLDER}/part-{self._shard:05d}.parquet"
        table = pa.Table.from_pylist(self._pending, SCHEMA)
        # PNG bytes are compressed already
        pq.write_table(table, self._out / name, compression="none", use_dictionary=False, write_page_checksum=True)
        self._rows[name] = len(self._pending)
        self._shard += 1
        self._pending = []


@dataclass(frozen=True)
class LabelMap:
    """The clusters of one image, still encoded."""

    image_id: str
    split: str
    png: bytes

    def decode(self) -> np.ndarray:
        """Cluster ids, int64 (h, w)."""
        return decode_labels(self.png)


def iterate_label_maps(evaluation: Artifact, only: Collection[str] | None = None) -> Iterator[LabelMap]:
    """The label maps in the order of `images.parquet`, a few in memory at a time.

    Args:
        evaluation: The folder of stage `evaluate`.
        only: Ids of the images wanted; None for all.

    Raises:
        InputError: A shard is damaged; the message names it.
    """
    return read_shards(evaluation.files(f"{FOLDER}/*.parquet"), only)


def read_shards(shards: Iterable[Path], only: Collection[str] | None = None) -> Iterator[LabelMap]:
    """The label maps of some shards, also of a folder that is still being written; see `iterate_label_maps`.

    Args:
        shards: The files in order.
        only: Ids of the images wanted; None for all.

    Raises:
        InputError: A shard is damaged; the message names it.
    """
    for path in shards:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as shard:
                for batch in shard.iter_batches(ROWS_AT_ONCE, columns=SCHEMA.names):
                    for row in batch.to_pylist():
                        check_id(row["image_id"], path)
                        if only is None or row["image_id"] in only:
                            yield LabelMap(**row)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); run `dvc repro --force --single-item evaluate`"
            ) from None


def count_label_maps(evaluation: Artifact) -> int:
    """Number of images that have a label map."""
    return sum(pq.read_metadata(path).num_rows for path in evaluation.files(f"{FOLDER}/*.parquet"))


def encode_labels(labels: np.ndarray) -> bytes:
    """Cluster ids as a gray PNG: 8-bit, or 16-bit when an id exceeds 255."""
    wide = labels.size and labels.max() > np.iinfo(np.uint8).max
    buffer = io.BytesIO()
    Image.fromarray(labels.astype(np.uint16 if wide else np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def decode_labels(png: bytes) -> np.ndarray:
    """The ids of `encode_labels`, int64 (h, w)."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.array(image).astype(np.int64)
