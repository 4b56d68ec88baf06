"""Pyramid pseudo labels, drawn on images level by level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.manifest import ImageRow
from pipeline.evaluation.palette import palette
from pipeline.report.inputs import ReportInputs
from pipeline.report.pictures import photo_uri
from pipeline.runtime.artifacts import Artifact

_NUMBERED_CELLS = 10  # cells a side up to which a number fits into a cell


@dataclass(frozen=True)
class Cell:
    """One cell of a level, in shares of the frame from 0 to 1."""

    x: float
    y: float
    side: float
    label: int
    colour: str


@dataclass(frozen=True)
class LevelPicture:
    """One level of one image; `numbered` says whether labels fit as numbers."""

    level: int
    cells: list[Cell]
    numbered: bool


@dataclass(frozen=True)
class PyramidPicture:
    """An image with its pseudo labels at every level."""

    image_id: str
    uri: str
    width: int
    height: int
    levels: list[LevelPicture]


def draw_pyramids(inputs: ReportInputs, count: int) -> list[PyramidPicture]:
    """Show the pseudo labels of some train images, evenly spaced over the split.

    Args:
        inputs: Gives the pseudo labels and the frames.
        count: How many images.

    Returns:
        The images, at most `count`.
    """
    rows = _spaced(inputs.images.select("train"), count)
    if not rows:
        return []
    levels = {
        level: _labels(inputs.pseudo_labels, level, {row.image_id for row in rows})
        for level in level_names(inputs.pseudo_labels)
    }
    pictures = []
    for row in rows:
        frame = inputs.load_frame(row.image_id)
        drawn = [_level_picture(level, found.get(row.image_id, [])) for level, found in levels.items()]
        height, width = frame.shape[:2]
        pictures.append(PyramidPicture(row.image_id, photo_uri(frame), width, height, drawn))
    return pictures


def level_names(pseudo_labels: Artifact) -> list[int]:
    """The levels of the pyramid in cells a side, ascending."""
    matches = (re.fullmatch(r"level=(\d+)\.parquet", name) for name in pseudo_labels.manifest["files"])
    return sorted(int(match[1]) for match in matches if match)


def level_table(pseudo_labels: Artifact) -> list[dict[str, Any]]:
    """What the statistics of the clustering say about each level, ascending.

    Args:
        pseudo_labels: The folder.

    Returns:
        Per level: `level`, `k_asked`, `k_used`, `rows`, `rows_fitted`, `reseeded`, `zero_vectors`, and
        `largest_share` and `smallest_share` in percent.
    """
    statistics = pseudo_labels.json("statistics.json")["levels"]
    table = []
    for level in sorted(statistics, key=int):
        entry = statistics[level]
        total = max(sum(entry["sizes"]), 1)
        table.append(
            {
                "level": int(level),
                **{key: entry[key] for key in ("k_asked", "k_used", "rows", "rows_fitted", "reseeded", "zero_vectors")},
                "largest_share": 100.0 * max(entry["sizes"], default=0) / total,
                "smallest_share": 100.0 * min(entry["sizes"], default=0) / total,
            }
        )
    return table


def _spaced(rows: Sequence[ImageRow], count: int) -> list[ImageRow]:
    count = min(count, len(rows))
    return [rows[position * len(rows) // count] for position in range(count)]


def _labels(pseudo_labels: Artifact, level: int, wanted: set[str]) -> dict[str, list[tuple[int, int, int]]]:
    """Row, column and label of every cell of the wanted images; the table is read in batches."""
    import pyarrow.parquet as pq

    path: Path = pseudo_labels.file(f"level={level}.parquet")
    found: dict[str, list[tuple[int, int, int]]] = {}
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(columns=["image_id", "row", "col", "label"]):
            names, *places = batch.columns
            for position, name in enumerate(names.to_pylist()):
                if name in wanted:
                    row, column, label = (column[position].as_py() for column in places)
                    found.setdefault(name, []).append((row, column, label))
    return found


def _level_picture(level: int, cells: list[tuple[int, int, int]]) -> LevelPicture:
    colours = palette(max((label for _, _, label in cells), default=-1) + 1)
    drawn = [
        Cell(
            x=column / level,
            y=row / level,
            side=1 / level,
            label=label,
            colour="#{:02x}{:02x}{:02x}".format(*colours[label]) if label >= 0 else "none",
        )
        for row, column, label in cells
    ]
    return LevelPicture(level, drawn, level <= _NUMBERED_CELLS)
