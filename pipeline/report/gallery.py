"""The gallery: image, truth, prediction and overlay side by side, as the evaluation drew them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report.inputs import optional_json
from pipeline.report.pictures import painted_uri, photo_uri, read_picture
from pipeline.runtime.artifacts import Artifact

SHOWN = 24  # images; more would only be weight, and all of them lie in data/evaluation/gallery

# Column of the gallery, whether it is a photo, and what it shows.
COLUMNS = (
    ("image", True, "the image in its frame"),
    ("truth", False, "the mask, unlabelled pixels black"),
    ("prediction", False, "the clusters, in the colours of their classes where matched"),
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


def draw_gallery(evaluation: Artifact) -> tuple[list[GalleryRow], int]:
    """Read the pictures that the evaluation drew.

    Args:
        evaluation: The folder of the evaluation.

    Returns:
        At most 24 images, and how many there are in the folder.
    """
    entries = optional_json(evaluation, "gallery/gallery.json") or []
    rows = []
    for entry in entries[:SHOWN]:
        pictures = []
        for title, photo, meaning in COLUMNS:
            if entry.get(title):
                image = read_picture(evaluation.file(f"gallery/{entry[title]}").read_bytes())
                pictures.append(Picture(title, meaning, (photo_uri if photo else painted_uri)(image)))
        rows.append(GalleryRow(entry["image_id"], entry["split"], pictures))
    return rows, len(entries)
