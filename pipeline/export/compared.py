"""Which images an export is calibrated with, and on which it is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.manifest import ImageRow
from pipeline.errors import InputError
from pipeline.labels.names import segmentation_by, segmentation_of
from pipeline.runtime.artifacts import Artifact, open_artifact


@dataclass(frozen=True)
class Chosen:
    """Indices of images.

    Attributes:
        calibration: Of train images.
        compared: Of evaluation images.
        split: Where these are from, such as `val` or `train+val`.
    """

    calibration: list[int]
    compared: list[int]
    split: str


def scored_split(evaluation: Path, model: Artifact) -> str:
    """Find what the evaluation of a model scored.

    Args:
        evaluation: The output of stage `evaluate`.
        model: The output of stage `train`.

    Returns:
        A split, or several joined by "+"; empty where the evaluation is of another model, had no masks, is missing or
        damaged.
    """
    try:
        artifact = open_artifact(evaluation)
        if segmentation_of(artifact) != segmentation_by(model):
            return ""
        return str(artifact.json("protocol.json").get("split", ""))
    except InputError:
        return ""


def choose_images(rows: Sequence[ImageRow], calibration: int, images: int, scored: str = "") -> Chosen:
    """Spread the chosen images evenly over their splits.

    Args:
        rows: All images.
        calibration: Train images at most.
        images: Evaluation images at most; 0: all.
        scored: See `scored_split`; where it is empty or has no images, val if there is one, else train.

    Raises:
        InputError: There are no train images.
    """

    def indices(split: str) -> list[int]:
        return [index for index, row in enumerate(rows) if row.split in split.split("+")]

    if not (train := indices("train")):
        raise InputError("no train images in the table of stage prepare; run `dvc repro prepare`")
    split = next(split for split in (scored, "val", "train") if indices(split))
    return Chosen(_spread(train, calibration), _spread(indices(split), images or len(rows)), split)


def _spread(indices: list[int], count: int) -> list[int]:
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return [indices[place] for place in places]
