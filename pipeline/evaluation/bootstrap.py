"""How much a figure depends on which images were scored: percentile intervals over resampled images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.matching import Assignment
from pipeline.runtime.randomness import generator

RESAMPLES = 1000
_COVERED = 95.0  # percent
_AT_ONCE = 64  # resamples
_PERCENT = 100.0


@dataclass
class ImageCounts:
    """The confusion matrices of many images, of which only entries that are not zero are kept.

    An image, or a tile of one, takes 24 bytes for each pair of class and cluster that it holds, whatever the number of
    clusters.

    Attributes:
        classes: Number of classes C.
    """

    classes: int
    _places: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)
    _counts: list[NDArray[np.int64]] = field(default_factory=list)
    _images: list[int] = field(default_factory=list)  # which image each matrix is of
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, matrix: NDArray[np.int64], clusters: NDArray[np.integer] | None = None, *, image: str) -> None:
        """Keep the matrix of one image, or of a tile of it.

        Args:
            matrix: counts of shape (C, k), int64.
            clusters: ids of the k columns; None: 0 to k - 1.
            image: what all tiles of an image share: they are not independent, and so are drawn together.
        """
        self._images.append(self._numbers.setdefault(image, len(self._numbers)))
        rows, columns = matrix.nonzero()
        self._counts.append(matrix[rows, columns])
        self._places.append((rows, columns if clusters is None else np.asarray(clusters, np.int64)[columns]))

    def __len__(self) -> int:
        """Number of images, those that were cut into tiles counted once."""
        return len(self._numbers)

    @property
    def tiles(self) -> int:
        """Number of matrices: of images, or of their tiles."""
        return len(self._counts)

    def total(self, clusters: Sequence[int]) -> NDArray[np.int64]:
        """Sum the matrices of all images.

        Args:
            clusters: ids of the K columns of the result in rising order; every id that was added is among them.

        Returns:
            Counts of shape (C, K), int64.
        """
        matrix = np.zeros((self.classes, len(clusters)), np.int64)
        for (rows, ids), counts in zip(self._places, self._counts, strict=True):
            matrix[rows, np.searchsorted(clusters, ids)] += counts  # each place once per matrix
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
        for image, (rows, ids), counts in zip(self._images, self._places, self._counts, strict=True):
            predicted = table[np.searchsorted(clusters, ids)]
            matched = predicted >= 0
            hit = rows == predicted
            np.add.at(sums[image, 0], rows[hit], counts[hit])
            np.add.at(sums[image, 1], rows, counts)
            np.add.at(sums[image, 2], predicted[matched], counts[matched])
        return sums


def bootstrap_intervals(sums: NDArray[np.integer], seed: int) -> dict[str, float]:
    """Draw as many images as there are, with replacement, many times over, and look at how far the figures spread.

    The matching stays the one of the whole split: matching each resample anew would favour it. So the interval tells
    what other images would change, not other clusters, seeds or trainings. Images without a valid pixel are
    not drawn. Every resample is summed before it is divided; a class that is neither true nor predicted in a
    resample is left out of its mean, so that with few images the interval of mIoU may lie above the figure.

    Args:
        sums: integers (N, 3, C) as of `ImageCounts.reduce`; a class has less than 2^53 pixels in any resample.
        seed: determines the draws.

    Returns:
        `miou_low`, `miou_high`, `pixel_accuracy_low`, `pixel_accuracy_high`: the 2.5th and 97.5th percentile in
        percent; `resamples`, and `images`, how many were drawn from. Empty for fewer than two such images.

    Source: Efron 1979; the percentile interval of Efron and Tibshirani 1993, chapter 13.
    """
    sums = np.asarray(sums)[np.asarray(sums)[:, 1].any(axis=1)]
    images = len(sums)
    if images < 2:
        return {}
    flat = sums.reshape(images, -1).astype(np.float64)  # exact: integers below 2^53
    rng = generator(seed, "bootstrap")
    figures = np.empty((2, RESAMPLES))
    for start in range(0, RESAMPLES, _AT_ONCE):
        stop = min(start + _AT_ONCE, RESAMPLES)
        times = rng.multinomial(images, np.full(images, 1 / images), size=stop - start).astype(np.float64)
        drawn = (times @ flat).reshape(stop - start, *sums.shape[1:])  # (resamples, 3, C)
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
