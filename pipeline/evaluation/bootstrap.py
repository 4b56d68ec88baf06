"""How much a figure depends on which images were scored: percentile intervals over resampled images."""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.matching import Assignment
from pipeline.runtime.randomness import generator

RESAMPLES = 1000
_COVERED = 95.0  # percent
_AT_ONCE = 8  # resamples at most
_NUMBERS = 2**20  # of how often images are drawn, or of their counts, that are held at once
_PERCENT = 100.0

_ENTRY = np.dtype([("image", np.int32), ("row", np.int32), ("cluster", np.int32), ("count", np.int64)])
_IN_MEMORY = 2**20  # bytes of entries, beyond which they go to a file
_READ = 2**16  # entries


class ImageCounts:
    """The confusion matrices of many images, of which only entries that are not zero are kept, in a file.

    Which class a cluster stands for is known only after all images are counted, so that they cannot be reduced before.
    On disk a matrix takes 20 bytes for each pair of class and cluster that it holds; in memory an image takes about 100
    bytes for its name, whatever the numbers of classes and clusters.

    Attributes:
        classes: Number of classes C.
        tiles: Number of matrices: of images, or of their tiles.
    """

    def __init__(self, classes: int, folder: Path | None = None) -> None:
        """Begin without images.

        Args:
            classes: Number of classes C.
            folder: Where the file, which has no name, takes its space; None: where temporary files lie.
        """
        self.classes, self.tiles = classes, 0
        self._numbers: dict[str, int] = {}
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=place)  # noqa: SIM115  (as long as this object)
        weakref.finalize(self, self._file.close)

    def add(self, matrix: NDArray[np.int64], clusters: NDArray[np.integer] | None = None, *, image: str) -> None:
        """Keep the matrix of one image, or of a tile of it.

        Args:
            matrix: counts of shape (C, k), int64.
            clusters: ids of the k columns, below 2^31; None: 0 to k - 1.
            image: what all tiles of an image share: they are not independent, and so are drawn together.
        """
        rows, columns = matrix.nonzero()
        entries = np.empty(len(rows), _ENTRY)
        entries["image"] = self._numbers.setdefault(image, len(self._numbers))
        entries["row"], entries["count"] = rows, matrix[rows, columns]
        entries["cluster"] = columns if clusters is None else np.asarray(clusters)[columns]
        self._file.write(entries.tobytes())
        self.tiles += 1

    def __len__(self) -> int:
        """Number of images, those that were cut into tiles counted once."""
        return len(self._numbers)

    def total(self, clusters: Sequence[int]) -> NDArray[np.int64]:
        """Sum the matrices of all images.

        Args:
            clusters: ids of the K columns of the result in rising order; every id that was added is among them.

        Returns:
            Counts of shape (C, K), int64.
        """
        matrix = np.zeros((self.classes, len(clusters)), np.int64)
        for entries in self._entries():
            np.add.at(matrix, (entries["row"], np.searchsorted(clusters, entries["cluster"])), entries["count"])
        return matrix

    def reduce(self, assignment: Assignment, clusters: Sequence[int]) -> NDArray[np.int64]:
        """Reduce every image to what IoU and accuracy are made of.

        Args:
            assignment: the class of each of the K clusters.
            clusters: their ids in rising order.

        Returns:
            int64 (N, 3, C): hits, ground truth pixels and predicted pixels of every class.
        """
        table = np.asarray(assignment.class_of_cluster, np.int64)
        sums = np.zeros((len(self), 3, self.classes), np.int64)
        for entries in self._entries():
            images, rows, counts = entries["image"], entries["row"], entries["count"]
            predicted = table[np.searchsorted(clusters, entries["cluster"])]
            for kind, classes, kept in (
                (0, rows, rows == predicted),
                (1, rows, slice(None)),
                (2, predicted, predicted >= 0),
            ):
                np.add.at(sums[:, kind], (images[kept], classes[kept]), counts[kept])
        return sums

    def _entries(self) -> Iterator[NDArray[np.void]]:
        """All entries in the order in which they were added, a bounded number at a time."""
        self._file.seek(0)
        while held := self._file.read(_READ * _ENTRY.itemsize):
            yield np.frombuffer(held, _ENTRY)


def bootstrap_intervals(sums: NDArray[np.integer], seed: int) -> dict[str, float]:
    """Draw as many images as there are, with replacement, many times over, and look at how far the figures spread.

    The matching stays the one of the whole split: matching each resample anew would favour it. So the interval tells
    what other images would change, not other clusters, seeds or trainings. Images without a valid pixel are
    not drawn. Every resample is summed before it is divided; a class that is neither true nor predicted in a
    resample is left out of its mean, so that with few images the interval of mIoU may lie above the figure. Beside
    `sums` memory does not grow with the images.

    Args:
        sums: integers (N, 3, C) as of `ImageCounts.reduce`; a class has less than 2^53 pixels in any resample.
        seed: determines the draws.

    Returns:
        `miou_low`, `miou_high`, `pixel_accuracy_low`, `pixel_accuracy_high`: the 2.5th and 97.5th percentile in
        percent; `resamples`, and `images`, how many were drawn from. Empty for fewer than two such images.

    Source: Efron 1979; the percentile interval of Efron and Tibshirani 1993, chapter 13.
    """
    rows = np.flatnonzero(sums[:, 1].any(axis=1))
    images = len(rows)
    if images < 2:
        return {}
    rng = generator(seed, "bootstrap")
    at_once, part = min(_AT_ONCE, max(1, _NUMBERS // images)), max(1, _NUMBERS // sums[0].size)
    figures = np.empty((2, RESAMPLES))
    for start in range(0, RESAMPLES, at_once):
        stop = min(start + at_once, RESAMPLES)
        times = rng.multinomial(images, np.full(images, 1 / images), size=stop - start).astype(np.float64)
        flat = np.zeros((stop - start, sums[0].size))
        for first in range(0, images, part):  # exact in any order: integers below 2^53
            some = sums[rows[first : first + part]].reshape(-1, sums[0].size).astype(np.float64)
            flat += times[:, first : first + part] @ some
        drawn = flat.reshape(-1, *sums.shape[1:])  # (resamples, 3, C)
        hits, truth, predicted = drawn[:, 0], drawn[:, 1], drawn[:, 2]
        union = truth + predicted - hits
        iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
        figures[0, start:stop] = iou.sum(axis=1) / np.count_nonzero(union, axis=1)
        figures[1, start:stop] = hits.sum(axis=1) / truth.sum(axis=1)
    tail = (_PERCENT - _COVERED) / 2
    intervals: dict[str, float] = {"resamples": RESAMPLES, "images": images}
    for name, values in zip(("miou", "pixel_accuracy"), figures, strict=True):
        low, high = np.percentile(_PERCENT * values, [tail, _PERCENT - tail])
        intervals |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return intervals
