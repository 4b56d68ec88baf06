"""Boundary F1: how well the outlines of a segmentation follow those of the ground truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.errors import ParamsError

TOLERANCE = 0.0075  # share of the image's diagonal, as in Csurka et al.
_PERCENT = 100.0


@dataclass
class BoundaryCounts:
    """Boundary pixels of every class over a whole split, and how many of them have a counterpart.

    Attributes:
        classes: Number of classes C.
        tolerance: Share of the diagonal, in (0, 1), up to which a boundary pixel may be off.
    """

    classes: int
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        """Start at zero."""
        if not 0 < self.tolerance < 1:
            raise ParamsError(f"a boundary tolerance of {self.tolerance:g} is no share of the diagonal; use 0.0075")
        # (4, C): boundary pixels of the truth, those found; predicted boundary pixels, those right
        self._sums = np.zeros((4, self.classes), np.int64)

    def add(self, truth: NDArray[np.integer], predicted: NDArray[np.integer], ignore_index: int) -> None:
        """Count the boundaries of one image.

        A pixel of a class is on its boundary if one of its four neighbours is another class; neither the image's edge
        nor the edge of an ignored region is a boundary, for what lies beyond is unknown.

        Args:
            truth: class ids (h, w) in [0, C), or `ignore_index`.
            predicted: class ids (h, w); C stands for pixels of unmatched clusters.
            ignore_index: id of pixels that are not counted; their prediction is not looked at.
        """
        ignored = truth == ignore_index
        reach = max(1.0, self.tolerance * math.hypot(*truth.shape))
        outlines = [_boundaries(labels, ignored) for labels in (truth, predicted)]
        pairs = zip(outlines, (truth, predicted), strict=True)
        found = [np.where(outline, labels.astype(np.int64), -1) for outline, labels in pairs]
        for class_id in np.union1d(*(np.unique(labels) for labels in found)).tolist():
            if 0 <= class_id < self.classes:
                places = [np.argwhere(labels == class_id) for labels in found]
                self._sums[:, class_id] += _count(places[0], places[1], reach)

    def f1(self) -> NDArray[np.float64]:
        """Compute the harmonic mean of precision and recall of every class, over all images together.

        Returns:
            Percent (C,), float64; NaN for a class that has no boundary in truth and prediction.

        Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", section 3; there
        it is a mean over images, here it is of the sums over the split, as every other figure.
        """
        truth, found, predicted, right = self._sums
        # 2 P R / (P + R) with P = right / predicted and R = found / truth, without dividing by a P or R of 0
        above = 2.0 * right * found
        below = 1.0 * right * truth + 1.0 * found * predicted
        figures = np.where(truth + predicted > 0, 0.0, np.nan)
        np.divide(_PERCENT * above, below, out=figures, where=below > 0)
        return figures

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Group `boundary` of `metrics.json`.

        Args:
            names: Of the C classes.

        Returns:
            `tolerance`; `per_class`, F1 in percent of the classes that have a boundary in truth or prediction; and
            `f1`, its mean over them, if there are any.
        """
        found = {name: float(f1) for name, f1 in zip(names, self.f1(), strict=True) if np.isfinite(f1)}
        group: dict[str, Any] = {"tolerance": self.tolerance, "per_class": found}
        if found:
            group["f1"] = float(np.mean(list(found.values())))
        return group

    def describe(self) -> str:
        """Say what is counted, for `protocol.json`."""
        return f"tolerance {100 * self.tolerance:g} % of each image's diagonal; sums over all images"


def _boundaries(labels: NDArray[np.integer], ignored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outline = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (labels[first] != labels[second]) & ~ignored[first] & ~ignored[second]
        outline[first] |= differ
        outline[second] |= differ
    return outline


def _count(truth: NDArray[np.intp], predicted: NDArray[np.intp], reach: float) -> tuple[int, int, int, int]:
    """Boundary pixels (n, 2) of one class in truth and prediction: how many there are, and how many of them are met."""
    return len(truth), _count_near(truth, predicted, reach), len(predicted), _count_near(predicted, truth, reach)


def _count_near(these: NDArray[np.intp], others: NDArray[np.intp], reach: float) -> int:
    """How many of these pixels are within reach of one of the others."""
    if not len(these) or not len(others):
        return 0
    # a tree of the few boundary pixels: a distance transform visits every pixel of the image for every class
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(these, distance_upper_bound=np.nextafter(reach, np.inf))
    return int(np.count_nonzero(distances <= reach))
