"""Times the Parquet shards of features against a plain table of the same size."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measuring import Row, time_calls
from benchmarks.samples import draw_points
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import read_shard, write_shard

IMAGES, LEVEL, D = 256, 8, 128
REPEATS = 10  # of some hundredths of a second


def measure_rows() -> list[Row]:
    """A shard of the finest level; the plain table has the same columns and encoding, but no checksums."""
    cells = LEVEL * LEVEL
    vectors = draw_points(IMAGES * cells, D, 0).astype(np.float16)
    ids = [f"train/{index:06d}.jpg" for index in range(IMAGES)]
    boxes = np.stack([cell_boxes(LEVEL, 128, 128)] * IMAGES)
    with tempfile.TemporaryDirectory() as name:
        ours, plain = Path(name) / "ours.parquet", Path(name) / "plain.parquet"

        def write_plain() -> None:
            row, column = (part.ravel().astype(np.int16) for part in np.indices((LEVEL, LEVEL)))
            corners = boxes.reshape(-1, 4)
            columns = {
                "image_id": pa.array(np.repeat(ids, cells)),
                "row": pa.array(np.tile(row, IMAGES)),
                "col": pa.array(np.tile(column, IMAGES)),
                **{
                    side: pa.array(np.ascontiguousarray(corners[:, n]))
                    for n, side in enumerate(("y0", "x0", "y1", "x1"))
                },
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), D),
            }
            pq.write_table(pa.table(columns), plain, compression="zstd", use_dictionary=["image_id"])

        seconds = time_calls(
            {
                "write": lambda: write_shard(ours, ids, boxes, vectors.reshape(IMAGES, cells, D), LEVEL, {}),
                "write plain": write_plain,
                "read": lambda: read_shard(ours),
                "read plain": lambda: pq.read_table(plain),
            },
            REPEATS,
        )
    return [
        Row(f"{verb} a shard", "plain pyarrow", mine, theirs, "s", theirs / mine, ">= 0.8")
        for verb in ("write", "read")
        for mine, theirs in [(seconds[verb], seconds[f"{verb} plain"])]
    ]
