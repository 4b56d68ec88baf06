"""A fixed, bounded set of pictures: image, ground truth, prediction, overlay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.pictures import picture_of
from pipeline.evaluation.palette import cluster_colours, colourise, overlay, palette
from pipeline.runtime.artifacts import write_json

OVERLAY_OPACITY = 0.5


@dataclass(frozen=True)
class Exhibit:
    """One image of the gallery.

    Attributes:
        image_id: Which image.
        split: Its split.
        image: uint8 (C, h, w).
        labels: Cluster ids (h, w).
        truth: Class ids (h, w), or None.
    """

    image_id: str
    split: str
    image: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None


def choose_exhibits(image_ids: list[str], count: int) -> set[str]:
    """Up to `count` ids, evenly spaced over the list."""
    if not image_ids or not count:
        return set()
    places = np.linspace(0, len(image_ids) - 1, min(count, len(image_ids))).round().astype(int)
    return {image_ids[place] for place in places}


def write_gallery(
    exhibits: list[Exhibit], out: Path, *, k: int, classes: int | None, class_of_cluster: tuple[int, ...] | None
) -> None:
    """Write the pictures and `gallery.json`.

    Args:
        exhibits: What to show, in order.
        out: The folder to make.
        k: Number of clusters K.
        classes: Number of classes C, or None without masks.
        class_of_cluster: Class of each cluster, -1 for unmatched; gives clusters the colours of their classes.
    """
    out.mkdir()
    matched = class_of_cluster is not None and classes is not None
    colours = cluster_colours(class_of_cluster, classes) if matched else palette(k)  # type: ignore[arg-type]
    listing = []
    for number, exhibit in enumerate(exhibits):
        image = picture_of(exhibit.image)
        prediction = colourise(exhibit.labels, colours)
        pictures = {"image": image, "prediction": prediction, "overlay": overlay(image, prediction, OVERLAY_OPACITY)}
        if exhibit.truth is not None and classes is not None:
            pictures["truth"] = colourise(exhibit.truth, palette(classes))
        names: dict[str, str | None] = {"truth": None}
        for kind, picture in pictures.items():
            names[kind] = f"{number:02d}-{kind}.png"
            Image.fromarray(picture).save(out / f"{number:02d}-{kind}.png")
        listing.append({"image_id": exhibit.image_id, "split": exhibit.split, **names})
    write_json(out / "gallery.json", listing)
