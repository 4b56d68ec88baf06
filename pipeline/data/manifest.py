"""The two tables of `data/prepared`: the images without any label, and apart from them the masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.bands import Bands
from pipeline.data.classes import DEFAULT_IGNORE_INDEX
from pipeline.data.frames import Frame
from pipeline.errors import InputError
from pipeline.runtime.digests import value_digest

OK = "ok"
_DIGEST = "content_sha256"

_IMAGE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("verdict", pa.string()),
    ]
)
_TRUTH_SCHEMA = pa.schema([(name, pa.string()) for name in ("image_id", "split", "mask_path", "mask_sha256")])


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image.

    Attributes:
        image_id: Relative POSIX path that names the image in every later table.
        split: `train`, `val`…
        path: How to open the file from the project's root.
        width: In pixels, after the EXIF rotation; 0 if the image was rejected. Likewise `height`.
        height: See `width`.
        sha256: Of the file's bytes; empty if they could not be read.
        verdict: "ok", or why the image was rejected.
    """

    image_id: str
    split: str
    path: str
    width: int
    height: int
    sha256: str
    verdict: str


@dataclass(frozen=True)
class ImageTable:
    """All images, and how they are decoded and framed.

    Attributes:
        rows: Sorted by (split, image_id); rejected images included.
        frame: The frame in which every later stage sees them.
        max_pixels: Bounds that the images were decoded with; likewise `min_side`.
        min_side: See `max_pixels`.
        bands: How other channels than RGB are scaled; None for RGB.
    """

    rows: list[ImageRow]
    frame: Frame
    max_pixels: int
    min_side: int
    bands: Bands | None = None

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return 3 if self.bands is None else self.bands.channels

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have usable images, sorted."""
        return sorted({row.split for row in self.rows if row.verdict == OK})

    def select(self, split: str | None) -> list[ImageRow]:
        """The usable images of one split, or with None of all, in the table's order."""
        return [row for row in self.rows if row.verdict == OK and split in (None, row.split)]

    def find_leaked(self) -> list[tuple[ImageRow, ImageRow]]:
        """Images outside train whose bytes are also in train, each with its twin there."""
        trained = {row.sha256: row for row in reversed(self.select("train"))}
        others = [row for row in self.select(None) if row.split != "train"]
        return [(row, trained[row.sha256]) for row in others if row.sha256 in trained]


@dataclass(frozen=True, slots=True)
class TruthRow:
    """The mask of one usable image; paths as in `ImageRow`."""

    image_id: str
    split: str
    mask_path: str
    mask_sha256: str


@dataclass(frozen=True)
class TruthTable:
    """All masks, sorted by (split, image_id).

    Attributes:
        rows: One for each usable image that has a mask.
        classes_text: The text of `classes.json` if there is one.
        ignore_index: Where there is none, the value in the masks that means unlabelled.
    """

    rows: list[TruthRow]
    classes_text: str | None
    ignore_index: int = DEFAULT_IGNORE_INDEX


def write_images(path: Path, table: ImageTable) -> None:
    """Write `images.parquet`; the rows are sorted, so their order does not matter."""
    limits = {"max_pixels": table.max_pixels, "min_side": table.min_side}
    bands = {} if table.bands is None else {"bands": asdict(table.bands)}
    frame = {**asdict(table.frame), **limits, **bands}
    _write(path, _IMAGE_SCHEMA, table.rows, {"frame": json.dumps(frame, sort_keys=True)})


def read_images(path: Path) -> ImageTable:
    """Read `images.parquet`.

    Raises:
        InputError: The file is missing, damaged or not such a table.
    """
    columns, metadata = _read(path, _IMAGE_SCHEMA)
    try:
        noted = json.loads(metadata["frame"])
        frame = Frame(noted["resize"], noted["crop"], noted["crop_size"])
        bands = Bands.from_notes(noted["bands"]) if "bands" in noted else None
        return ImageTable(
            [ImageRow(*values) for values in columns], frame, int(noted["max_pixels"]), int(noted["min_side"]), bands
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(path, f"its frame is not noted as expected ({error!r})") from None


def write_truth(path: Path, table: TruthTable) -> None:
    """Write `truth.parquet`, also when it has no rows; the rows are sorted, so their order does not matter."""
    metadata = {} if table.classes_text is None else {"classes": table.classes_text}
    if table.ignore_index != DEFAULT_IGNORE_INDEX:
        metadata["ignore_index"] = str(table.ignore_index)
    _write(path, _TRUTH_SCHEMA, table.rows, metadata)


def read_truth(path: Path) -> TruthTable:
    """Read `truth.parquet`.

    Raises:
        InputError: The file is missing, damaged or not such a table.
    """
    columns, metadata = _read(path, _TRUTH_SCHEMA)
    ignore_index = int(metadata.get("ignore_index", DEFAULT_IGNORE_INDEX))
    return TruthTable([TruthRow(*values) for values in columns], metadata.get("classes"), ignore_index)


def check_id(image_id: str, path: Path) -> None:
    """Refuse an id that, taken for a path, leads out of its folder.

    Args:
        image_id: The id; some outputs have files of that name.
        path: The table that it stands in, for the message.

    Raises:
        InputError: The id is absolute, has a part `..`, or is empty.
    """
    place = PurePosixPath(image_id)
    if not place.name or place.is_absolute() or ".." in place.parts or "\0" in image_id:
        raise InputError(f"{path}: the image id {image_id!r} leads out of its folder; run `dvc repro --force`")


def _write(path: Path, schema: pa.Schema, rows: Sequence[ImageRow | TruthRow], metadata: dict) -> None:
    ordered = sorted(rows, key=lambda row: (row.split, row.image_id))
    values = zip(*map(astuple, ordered), strict=True) if ordered else [[] for _ in schema]
    metadata = {**metadata, _DIGEST: _digest([astuple(row) for row in ordered], metadata)}
    arrays = [pa.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def _digest(rows: list[tuple[Any, ...]], metadata: dict[str, str]) -> str:
    # Parquet has checksums of its pages, but none of its footer, where the notes are
    return value_digest([rows, metadata])


def _read(path: Path, schema: pa.Schema) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
    try:
        # not `read_table`, which would take folder names such as level=1 for columns
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except FileNotFoundError:
        raise _unusable(path, "missing") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _unusable(path, f"not a readable Parquet file ({' '.join(str(error).split())[:120]})") from None
    if not table.schema.equals(schema, check_metadata=False):
        raise _unusable(path, f"columns {table.schema.names} instead of {schema.names}, or of other types")
    if any(column.null_count for column in table.columns):
        raise _unusable(path, "holds empty cells")
    try:
        rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        noted = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except UnicodeDecodeError:
        raise _unusable(path, "holds text that is not UTF-8") from None
    if noted.pop(_DIGEST, None) != _digest(rows, noted):
        raise _unusable(path, "its content differs from the digest that is noted in it")
    for row in rows:
        check_id(row[0], path)
    return rows, noted


def _unusable(path: Path, problem: str) -> InputError:
    return InputError(f"{path}: {problem}; rebuild it with `dvc repro --force --single-item prepare`")
