"""What is kept of a segmented image: label map, overlay, areas, and masks in COCO's format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.evaluation.palette import colourise, overlay
from pipeline.export.sources import ImageFile
from pipeline.labels.legend import list_legend, name_colours, write_legend
from pipeline.labels.names import Names
from pipeline.labels.relabelling import encode_named

OPACITY = 0.5
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = ("image", "label_map", "width", "height", "id", "name", "pixels", "percent")


class PredictionWriter:
    """Fills a folder: `labels/`, `overlays/`, `areas.csv`, `coco.json`, `legend.json`, `classes.json`.

    Tables grow while images come; memory is that of one image, and a line for each.
    """

    def __init__(self, folder: Path, names: Names, *, overlays: bool) -> None:
        self._folder, self._names, self._overlays = folder, names, overlays
        self._colours = name_colours(names)
        self._ids = np.array(names.merged_ids)
        self._images: list[dict[str, Any]] = []
        self._annotations = 0

    def __enter__(self) -> PredictionWriter:
        """Start the tables."""
        write_legend(self._folder, list_legend(self._names))
        self._areas: TextIO = (self._folder / "areas.csv").open("w", encoding="utf-8", newline="")
        self._table = csv.writer(self._areas)
        self._table.writerow(COLUMNS)
        self._coco: TextIO = (self._folder / "coco.json").open("w", encoding="utf-8")
        self._coco.write('{"annotations": [')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the tables."""
        categories = [{"id": place, "name": name} for place, name in enumerate(self._names.distinct)]
        rest = {"images": self._images, "categories": categories}
        self._coco.write("],\n" + json.dumps(rest)[1:] + "\n")
        self._coco.close()
        self._areas.close()

    def add(self, file: ImageFile, image: NDArray[np.uint8], clusters: NDArray[np.unsignedinteger]) -> None:
        """Write one image's results.

        Args:
            file: Gives the names of the files.
            image: uint8 (H, W, 3), for the overlay.
            clusters: (H, W), in 0..K-1.
        """
        place = f"labels/{file.name}.png"
        self._write(place, encode_named(clusters, self._names, self._colours))
        labels = self._ids.astype(clusters.dtype)[clusters]
        if self._overlays:
            path = self._place(f"overlays/{file.name}.png")
            Image.fromarray(overlay(image, colourise(labels, self._colours), OPACITY)).save(path, "PNG")
        height, width = labels.shape
        counts = np.bincount(labels.ravel(), minlength=len(self._names.distinct))
        for label, (name, count) in enumerate(zip(self._names.distinct, counts.tolist(), strict=True)):
            share = f"{100 * count / labels.size:.4f}"
            self._table.writerow([plain(file.shown), plain(place), width, height, label, plain(name), count, share])
        number = len(self._images) + 1
        self._images.append(
            {"id": number, "file_name": file.shown, "label_map": place, "width": width, "height": height}
        )
        for label in np.flatnonzero(counts).tolist():
            self._add_mask(labels == label, number, label)

    def _add_mask(self, mask: NDArray[np.bool_], image: int, label: int) -> None:
        from pycocotools import mask as masks

        encoded = masks.encode(np.asfortranarray(mask.view(np.uint8)))
        self._annotations += 1
        annotation = {
            "id": self._annotations,
            "image_id": image,
            "category_id": label,
            "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
            "area": int(masks.area(encoded)),
            "bbox": masks.toBbox(encoded).tolist(),
            "iscrowd": 0,
        }
        self._coco.write((",\n" if self._annotations > 1 else "\n") + json.dumps(annotation))

    def _write(self, name: str, data: bytes) -> None:
        self._place(name).write_bytes(data)

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def plain(text: str) -> str:
    """Text for a table that no spreadsheet takes for a formula: an apostrophe stands before what would be one."""
    return f"'{text}" if text.startswith(FORMULA) else text
