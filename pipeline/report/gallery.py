"""The gallery: image, truth, prediction and overlay side by side, as the evaluation drew them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.gallery import OVERLAY_OPACITY
from pipeline.evaluation.palette import overlay
from pipeline.report.inputs import optional_json
from pipeline.report.pictures import painted_uri, photo_uri, read_picture
from pipeline.runtime.artifacts import Artifact

SHOWN = 24  # images; more would only be weight, and all of them lie in data/evaluation/gallery

# Column of the gallery, whether it is a photo, and what it shows.
COLUMNS = (
    ("image", True, "the image in its frame"),
    ("truth", False, "the mask, unlabelled pixels black"),
    ("prediction", False, "the clusters, in the colours of the legend"),
    ("overlay", True, "the prediction over the image"),
)


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery."""

    title: str
    meaning: str
    uri: str


@dataclass(frozen=True)
class GalleryRow:
    """One image of the gallery with its pictures; there is no truth where it has no mask."""

    image_id: str
    split: str
    pictures: list[Picture]


def shown_images(evaluation: Artifact) -> list[str]:
    """Ids of the images that the page shows of the gallery."""
    return [entry["image_id"] for entry in (optional_json(evaluation, "gallery/gallery.json") or [])[:SHOWN]]


def draw_gallery(
    evaluation: Artifact, painted: Mapping[str, NDArray[np.uint8]] | None = None
) -> tuple[list[GalleryRow], int]:
    """Read the pictures that the evaluation drew.

    Args:
        evaluation: The folder of the evaluation.
        painted: By image id, predictions in other colours than the evaluation's, uint8 (h, w, 3).

    Returns:
        At most 24 images, and how many there are in the folder.
    """
    entries = optional_json(evaluation, "gallery/gallery.json") or []
    rows = []
    for entry in entries[:SHOWN]:
        stored = {
            title: read_picture(evaluation.file(f"gallery/{entry[title]}").read_bytes())
            for title, _, _ in COLUMNS
            if entry.get(title)
        }
        if painted is not None:
            prediction = painted[entry["image_id"]]
            stored |= {"prediction": prediction, "overlay": overlay(stored["image"], prediction, OVERLAY_OPACITY)}
        pictures = [
            Picture(title, meaning, (photo_uri if photo else painted_uri)(stored[title]))
            for title, photo, meaning in COLUMNS
            if title in stored
        ]
        rows.append(GalleryRow(entry["image_id"], entry["split"], pictures))
    return rows, len(entries)
