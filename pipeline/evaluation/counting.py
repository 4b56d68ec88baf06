"""What one pass over the segmented images collects; several processes can count, and the first one adds up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.manifest import ImageRow
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.draws import count_draws
from pipeline.evaluation.gallery import Exhibit
from pipeline.evaluation.label_maps import LabelMapWriter, encode_labels
from pipeline.evaluation.truth import GroundTruth
from pipeline.evaluation.variants import VariantCounts

Segmented = Iterable[tuple[int, Any, np.ndarray, Sequence[np.ndarray], Mapping[str, np.ndarray]]]


class CountedImage(NamedTuple):
    """One image, counted.

    Attributes:
        row: Which image.
        png: Its label map, see `encode_labels`.
        pixels: int64 (K,), pixels of each cluster.
        matrix: int64 (C, K), or None without a mask.
        draws: int64 (R, C, K), likewise.
        variants: int64 (C, K) and bool (h, w), counts of each variant's labels and where they differ; empty if not
            scored.
        exhibit: For the gallery, if the image was chosen.
    """

    row: ImageRow
    png: bytes
    pixels: np.ndarray
    matrix: np.ndarray | None
    draws: np.ndarray | None
    variants: dict[str, tuple[np.ndarray, np.ndarray]]
    exhibit: Exhibit | None


@dataclass
class Counts:
    """The sums over all images.

    Attributes:
        matrices: int64 (C, K) per split.
        draws: int64 (R, C, K) per split.
        pixels: int64 (K,) per split, ignored pixels included.
        images: Of the scored split.
        variants: Of the scored split, by name.
        exhibits: The gallery.
    """

    matrices: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]
    images: ImageCounts
    variants: dict[str, VariantCounts]
    exhibits: list[Exhibit]

    def join(self, truth: GroundTruth) -> None:
        """Add the union of the scored splits, if they are several."""
        tables: tuple[dict[str, Any], ...] = (self.matrices, self.draws, self.pixels)
        for counted in tables:
            parts = [counted[name] for name in truth.splits if name in counted]
            if len(truth.splits) > 1 and parts:
                counted[truth.split] = sum(parts[1:], parts[0])


def count_images(
    segmented: Segmented, usable: Sequence[ImageRow], truth: GroundTruth | None, k: int, chosen: Collection[str]
) -> Iterator[CountedImage]:
    """Compare segmented images with their masks, one at a time.

    Args:
        segmented: See `evaluate_segmenter`.
        usable: The images that the indices count.
        truth: The masks, or None.
        k: Number of clusters K.
        chosen: Ids of the images for the gallery.

    Yields:
        The images in the order given.

    Raises:
        InputError: A mask is unusable.
    """
    for index, image, labels, draws, variants in segmented:
        row = usable[index]
        mask = matrix = drawn = None
        varied = {}
        if truth and truth.has(row.image_id):
            mask = truth.read(row.image_id)
            sizes_of = {"classes": len(truth.classes.names), "k": k, "ignore_index": truth.classes.ignore_index}
            matrix = confusion_matrix(mask, labels, **sizes_of)
            drawn = count_draws(mask, draws, **sizes_of)
            if row.split in truth.splits:
                for name, found in variants.items():
                    varied[name] = confusion_matrix(mask, found, **sizes_of), labels != found
        shown = Exhibit(row.image_id, row.split, np.asarray(image), labels, mask) if row.image_id in chosen else None
        pixels = np.bincount(labels.ravel(), minlength=k).astype(np.int64)
        yield CountedImage(row, encode_labels(labels), pixels, matrix, drawn, varied, shown)


def add_up(
    counted: Iterable[CountedImage], truth: GroundTruth | None, k: int, out: Path, rows: dict[str, int]
) -> Counts:
    """Sum the counts of all images, and write their label maps.

    Memory does not grow with the images but for their names; see `ImageCounts`, whose file takes its space in `out`.

    Args:
        counted: The images, in the order of `images.parquet`.
        truth: The masks, or None.
        k: Number of clusters K.
        out: Folder for the label maps.
        rows: Gets the rows of each table.
    """
    C = len(truth.classes.names) if truth else 0
    counts = Counts({}, {}, {}, ImageCounts(C, out), {}, [])
    maps = LabelMapWriter(out, rows)
    for row, png, pixels, matrix, draws, variants, exhibit in counted:
        split = row.split
        maps.add(row.image_id, split, png)
        counts.pixels[split] = counts.pixels.get(split, 0) + pixels
        if truth and matrix is not None and draws is not None:
            counts.matrices[split] = counts.matrices.get(split, 0) + matrix
            counts.draws[split] = counts.draws.get(split, 0) + draws
            if split in truth.splits:
                counts.images.add(matrix, image=truth.image_of(row.image_id))
        for name, found in variants.items():
            if name not in counts.variants:
                counts.variants[name] = VariantCounts(np.zeros((C, k), np.int64))
            counts.variants[name].add(*found)
        if exhibit is not None:
            counts.exhibits.append(exhibit)
    maps.flush()
    return counts
