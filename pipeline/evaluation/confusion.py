"""The one state of the evaluation: an int64 matrix of pixel counts, ground truth classes by clusters."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Codes of one chunk stay in the L2 cache, as do the int64 copies that np.bincount makes of them.
_CHUNK = 65_536
_UINT8_IDS = 256
_IDS_NAMED = 10


def confusion_matrix(
    truth: NDArray[np.integer], clusters: NDArray[np.integer], *, classes: int, k: int, ignore_index: int
) -> NDArray[np.int64]:
    """Count the pixels of every pair of ground truth class and cluster.

    Matrices of several images, shards or processes are summed with `+`. The sum of a matrix is the number of
    valid pixels for any number of clusters: no pixel of a surplus cluster is lost.

    Args:
        truth: class ids in [0, classes) or `ignore_index`; integers of any shape. uint8 is the fast path.
        clusters: cluster ids in [0, k) for every pixel, ignored ones included; integers, the shape of
            `truth`.
        classes: number of ground truth classes C, at least 1.
        k: number of clusters K, at least 1.
        ignore_index: id outside [0, classes) of the pixels that are not counted.

    Returns:
        Counts of shape (C, K), int64; rows are ground truth classes, columns are clusters.

    Raises:
        ValueError: when an id lies outside its range (the ids are named), when the shapes differ, when an
            array does not hold integers, or when `ignore_index` is one of the classes.
    """
    _check(truth, clusters, classes, k, ignore_index)
    if truth.dtype != np.uint8 and truth.size and truth.min() >= 0 and truth.max() < _UINT8_IDS:
        truth = truth.astype(np.uint8)
    # A uint8 id is its own row, so that ignored and unknown ids need no pass of their own.
    narrow = truth.dtype == np.uint8
    rows = max(_UINT8_IDS, classes) if narrow else classes + 1
    code_type: type[np.integer] = np.uint16 if rows * k <= np.iinfo(np.uint16).max + 1 else np.int64
    chunk = max(_CHUNK, rows * k)

    flat_truth, flat_clusters = truth.ravel(), clusters.ravel()
    codes = np.empty(min(chunk, truth.size), dtype=code_type)
    counts = np.zeros(rows * k, dtype=np.int64)
    for start in range(0, truth.size, chunk):
        truth_part = flat_truth[start : start + chunk]
        cluster_part = flat_clusters[start : start + chunk]
        if cluster_part.max() >= k or cluster_part.min() < 0:
            raise ValueError(f"cluster ids {_outside(clusters, k)} lie outside 0..{k - 1}")
        if not narrow:
            truth_part = truth_part.astype(np.int64)
            ignored = truth_part == ignore_index
            if np.any(((truth_part < 0) | (truth_part >= classes)) != ignored):
                raise _unknown_ids(truth, classes, ignore_index)
            truth_part[ignored] = classes
        part = codes[: truth_part.size]
        np.multiply(truth_part, code_type(k), out=part, dtype=code_type, casting="unsafe")
        np.add(part, cluster_part, out=part, dtype=code_type, casting="unsafe")
        counts += np.bincount(part, minlength=rows * k)

    table = counts.reshape(rows, k)
    outside = np.flatnonzero(table[classes:].any(axis=1)) + classes
    if narrow and np.any(outside != ignore_index):
        raise _unknown_ids(truth, classes, ignore_index)
    return table[:classes].copy()


def _check(truth: NDArray[np.integer], clusters: NDArray[np.integer], classes: int, k: int, ignore_index: int) -> None:
    if truth.shape != clusters.shape:
        raise ValueError(f"truth has shape {truth.shape}, clusters have shape {clusters.shape}")
    for name, array in (("truth", truth), ("clusters", clusters)):
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must hold integers, not {array.dtype}")
    if classes < 1 or k < 1:
        raise ValueError(f"classes and k must be at least 1, not {classes} and {k}")
    if 0 <= ignore_index < classes:
        raise ValueError(f"ignore_index {ignore_index} is one of the {classes} classes")


def _unknown_ids(truth: NDArray[np.integer], classes: int, ignore_index: int) -> ValueError:
    ids = _outside(truth, classes, except_for=ignore_index)
    return ValueError(
        f"ground truth ids {ids} lie outside 0..{classes - 1} and differ from ignore_index {ignore_index}"
    )


def _outside(ids: NDArray[np.integer], stop: int, except_for: int | None = None) -> str:
    found: Iterable[int] = np.unique(ids).tolist()
    wrong = [i for i in found if not 0 <= i < stop and i != except_for]
    named = ", ".join(map(str, wrong[:_IDS_NAMED]))
    return named if len(wrong) <= _IDS_NAMED else f"{named} and {len(wrong) - _IDS_NAMED} more"
