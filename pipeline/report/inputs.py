"""What the report is made from: finished folders of earlier stages, read one image at a time."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.data.pictures import picture_of
from pipeline.data.reading import read_frame
from pipeline.errors import InputError
from pipeline.evaluation.label_maps import LabelMap, count_label_maps, iterate_label_maps
from pipeline.runtime.artifacts import Artifact


@dataclass(frozen=True)
class ReportInputs:
    """What the report reads.

    Attributes:
        images: The table of images, rejected ones included.
        backbone: Weights of the backbone and its curves.
        pseudo_labels: Pyramid pseudo labels.
        segmenter: Weights of the segmenter and its curves.
        evaluation: Metrics, label maps and gallery.
        manifests: Manifests of further stages, for their parameters only.
    """

    images: ImageTable
    backbone: Artifact
    pseudo_labels: Artifact
    segmenter: Artifact
    evaluation: Artifact
    manifests: tuple[dict[str, Any], ...] = ()

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The folders by their names below `data/`, in the order of the stages."""
        return {
            "backbone": self.backbone,
            "pseudo_labels": self.pseudo_labels,
            "segmenter": self.segmenter,
            "evaluation": self.evaluation,
        }

    @cached_property
    def rows_by_id(self) -> dict[str, ImageRow]:
        """The images by their id."""
        return {row.image_id: row for row in self.images.rows}

    def load_frame(self, image_id: str) -> NDArray[np.uint8]:
        """Read one image in the frame in which all stages saw it.

        Args:
            image_id: Its id.

        Returns:
            RGB image of shape (H, W, 3), uint8; other channels as `picture_of` shows them.

        Raises:
            InputError: The table does not list the image, or its file is missing or altered.
        """
        row = self.rows_by_id.get(image_id)
        if row is None:
            raise InputError(
                f"{image_id}: has a label map or pseudo labels, but images.parquet does not list it; run "
                "`dvc repro` so that all folders come from the same images"
            )
        return picture_of(read_frame(row, self.images))

    def label_maps(self, only: Collection[str] | None = None) -> Iterator[LabelMap]:
        """The label maps in the order of `images.parquet`, a few in memory at a time.

        Args:
            only: Ids of the images wanted; None for all.
        """
        return iterate_label_maps(self.evaluation, only)

    def label_map_count(self) -> int:
        """Number of images that have a label map."""
        return count_label_maps(self.evaluation)


def optional_json(artifact: Artifact, name: str) -> Any:
    """A listed JSON file, checked and parsed, or None where the folder has no such file."""
    return artifact.json(name) if name in artifact.manifest["files"] else None


def read_curves(artifact: Artifact) -> dict[str, list[float]]:
    """Read `curves.csv` of a training.

    Args:
        artifact: The folder of a backbone or segmenter.

    Returns:
        The columns by name, all equally long, `epoch` among them; a missing value is NaN. Empty where there
        was no training.

    Raises:
        InputError: A cell is not a number.
    """
    if "curves.csv" not in artifact.manifest["files"]:
        return {}
    path = artifact.file("curves.csv")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns: dict[str, list[float]] = {name: [] for name in reader.fieldnames or ()}
        for number, row in enumerate(reader, start=2):
            for name in columns:
                columns[name].append(_number(path, number, name, row[name]))
    return columns if columns.get("epoch") else {}


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise InputError(
            f"{path}: line {line} has {text!r} as {name}, which is not a number; run the stage again"
        ) from None
