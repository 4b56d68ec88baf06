"""The figures of `metrics.json`: pure functions of a matched matrix, in integers until the last division."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

_PERCENT = 100.0
_SECTIONS = {"thing": "things", "stuff": "stuff"}


def score(matched: NDArray[np.integer], kinds: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """Compute IoU and accuracy over all classes, over things and over stuff.

    `miou` is the mean over the classes that occur in the ground truth or in the prediction (union > 0),
    `miou_present` the mean over those that occur in the ground truth. Things and stuff select rows, that is
    ground truth classes, after the columns were brought into class order; predictions stay over all classes,
    and an IoU is the same in every section. There is no class beyond the C: `void` is only a way to be wrong.

    Args:
        matched: counts of shape (C, C + 1); rows are ground truth classes, columns predicted classes and
            `void`.
        kinds: `thing` or `stuff` for each of the C classes, or None when the classes have no kinds.

    Returns:
        Sections `all`, `things`, `stuff`, each with `miou`, `miou_present`, `pixel_accuracy` and
        `mean_accuracy` in percent, finite. `things` and `stuff` are left out without kinds, or when the
        ground truth has no pixel of that kind, where accuracy is undefined.

    Raises:
        InputError: when the matrix holds no pixel.
        ValueError: when the matrix is not (C, C + 1) counts, or the kinds are not one per class.
    """
    counts = _checked(matched)
    if not counts.any():
        raise InputError(
            "nothing to evaluate: every pixel of every mask is ignored; check the masks, and ignore_index in "
            "classes.json"
        )
    sections = {"all": _figures(counts, np.ones(len(counts), dtype=bool))}
    for section, rows in _rows_of_kinds(kinds, len(counts)).items():
        if counts[rows].any():
            sections[section] = _figures(counts, rows)
    return sections


def score_restricted(matched: NDArray[np.integer], kinds: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """Compute the figures of things among things and of stuff among stuff: rows and predictions of one kind.

    A pixel of one kind that is predicted as the other is left out, so that these figures hide the confusion between
    the kinds and are above those of `score`, which are the ones to publish. They are what evaluators report that
    cut a square block out of the matrix. A pixel of an unmatched cluster stays an error.

    Args:
        matched: counts of shape (C, C + 1), columns in class order.
        kinds: `thing` or `stuff` for each of the C classes, or None.

    Returns:
        Sections `things` and `stuff` with the figures of `score`; a section without a pixel is left out.

    Raises:
        ValueError: when the matrix is not (C, C + 1) counts, or the kinds are not one per class.
    """
    counts = _checked(matched)
    sections = {}
    for section, rows in _rows_of_kinds(kinds, len(counts)).items():
        block = counts[rows][:, np.append(rows, True)]  # (C of the kind, C of the kind + 1)
        if block.any():
            sections[section] = _figures(block, np.ones(len(block), dtype=bool))
    return sections


def per_class_iou(matched: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute the intersection over union of every class over the whole split.

    Args:
        matched: counts of shape (C, C + 1); rows are ground truth classes, columns predicted classes and
            `void`.

    Returns:
        IoU in percent of shape (C,), float64; NaN where a class is neither in the ground truth nor predicted.

    Raises:
        ValueError: when the matrix is not (C, C + 1) counts.
    """
    counts = _checked(matched)
    hits, union = np.diagonal(counts), _union(counts)
    iou = np.full(len(counts), np.nan)
    np.divide(_PERCENT * hits, union, out=iou, where=union > 0)
    return iou


def classes_counted(matched: NDArray[np.integer]) -> int:
    """Count the classes that enter `miou`: those with a union, in ground truth or prediction.

    Args:
        matched: counts of shape (C, C + 1).

    Returns:
        A number in [0, C].

    Raises:
        ValueError: when the matrix is not (C, C + 1) counts.
    """
    return int(np.count_nonzero(_union(_checked(matched))))


def absent_classes(matched: NDArray[np.integer]) -> tuple[int, ...]:
    """List the classes without a ground truth pixel, which `miou_present` leaves out.

    Args:
        matched: counts of shape (C, C + 1).

    Returns:
        Class ids in rising order.

    Raises:
        ValueError: when the matrix is not (C, C + 1) counts.
    """
    return tuple(np.flatnonzero(_checked(matched).sum(axis=1) == 0).tolist())


def cluster_statistics(column_sums: NDArray[np.integer]) -> dict[str, float]:
    """Describe how evenly the pixels are spread over the clusters; needs no labels.

    Args:
        column_sums: number of pixels of each cluster, shape (K,), integers >= 0.

    Returns:
        `k`; `used`, the number of clusters with a pixel; `largest_share` in percent; `entropy`, the Shannon
        entropy divided by log K, from 0 (all pixels in one cluster; also for K = 1) to 1 (clusters of equal
        size).

    Raises:
        InputError: when there is no pixel.
    """
    sizes = np.asarray(column_sums)
    k, total = len(sizes), int(sizes.sum(dtype=np.int64))
    if total == 0:
        raise InputError("nothing to evaluate: no pixel was assigned to a cluster; check the images of the split")
    shares = sizes[sizes > 0] / total
    entropy = float(-(shares * np.log(shares)).sum() / math.log(k)) if k > 1 else 0.0
    return {
        "k": k,
        "used": len(shares),
        "largest_share": _PERCENT * float(shares.max()),
        # Rounding may leave the range by one unit in the last place, and -0.0 is not worth publishing.
        "entropy": min(max(entropy, 0.0), 1.0),
    }


def _figures(counts: NDArray[np.int64], rows: NDArray[np.bool_]) -> dict[str, float]:
    hits, totals = np.diagonal(counts)[rows], counts.sum(axis=1)[rows]
    iou = per_class_iou(counts)[rows]
    present = totals > 0
    return {
        "miou": float(np.nanmean(iou)),
        "miou_present": float(iou[present].mean()),
        "pixel_accuracy": _PERCENT * int(hits.sum()) / int(totals.sum()),
        "mean_accuracy": float((_PERCENT * hits[present] / totals[present]).mean()),
    }


def _rows_of_kinds(kinds: Sequence[str] | None, classes: int) -> dict[str, NDArray[np.bool_]]:
    if kinds is None:
        return {}
    if len(kinds) != classes or not set(kinds) <= set(_SECTIONS):
        raise ValueError(f"expected {classes} kinds of {sorted(_SECTIONS)}, not {list(kinds)}")
    return {section: np.array([k == kind for k in kinds]) for kind, section in _SECTIONS.items()}


def _union(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    union: NDArray[np.int64] = counts.sum(axis=1) + counts.sum(axis=0)[:-1] - np.diagonal(counts)
    return union


def _checked(matched: NDArray[np.integer]) -> NDArray[np.int64]:
    counts = np.asarray(matched)
    fits = counts.ndim == 2 and counts.shape[0] > 0 and counts.shape[1] == counts.shape[0] + 1
    if not fits or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"expected (C, C + 1) counts, not {counts.dtype} of shape {counts.shape}")
    return counts.astype(np.int64)
