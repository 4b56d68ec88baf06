"""Scores of further final clusterings: how much of a figure the last k-means decides by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.data.manifest import ImageTable
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import hungarian
from pipeline.evaluation.metrics import per_class_iou, score
from pipeline.evaluation.truth import GroundTruth
from pipeline.params import EvaluateParams

# Section and figure of `metrics.json`, by what the group `draws` calls them.
_FIGURES = {
    "miou": ("all", "miou"),
    "pixel_accuracy": ("all", "pixel_accuracy"),
    "things_miou": ("things", "miou"),
    "stuff_miou": ("stuff", "miou"),
}


def matching_split(truth: GroundTruth, params: EvaluateParams) -> str:
    """The split on which clusters are matched to classes."""
    return "train" if params.match_on == "train" else truth.split


def drawn_images(table: ImageTable, truth: GroundTruth | None, params: EvaluateParams) -> frozenset[int]:
    """Indices of the usable images on which clusters are matched or scored."""
    return scored_images(table, truth, (matching_split(truth, params),) if truth else ())


def scored_images(table: ImageTable, truth: GroundTruth | None, further: Sequence[str] = ()) -> frozenset[int]:
    """Indices of the usable images that are scored, and of those with masks in further splits."""
    if truth is None:
        return frozenset()
    splits = {*truth.splits, *further}
    usable = enumerate(table.select(None))
    return frozenset(index for index, row in usable if row.split in splits and truth.has(row.image_id))


def count_draws(truth: np.ndarray, draws: Sequence[np.ndarray], *, classes: int, k: int, ignore_index: int) -> Any:
    """The confusion matrices of one image.

    Args:
        truth: Class ids (h, w).
        draws: R times cluster ids (h, w).
        classes: Number of classes C.
        k: Number of clusters K.
        ignore_index: Class id that is not counted.

    Returns:
        int64 (R, C, K).
    """
    matrices = [confusion_matrix(truth, found, classes=classes, k=k, ignore_index=ignore_index) for found in draws]
    return np.stack(matrices) if matrices else np.zeros((0, classes, k), np.int64)


def score_draws(
    matched_on: np.ndarray, scored: np.ndarray, names: Sequence[str], kinds: Sequence[str] | None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Score every draw under its own matching.

    Args:
        matched_on: int64 (R, C, K) of the split on which clusters are matched.
        scored: int64 (R, C, K) of the scored split.
        names: The C classes.
        kinds: `thing` or `stuff` per class, or None.

    Returns:
        The group `draws` of the metrics: `count`, and mean and sample standard deviation (`_sd`, from two draws on) of
        mIoU and accuracy in percent, of things and stuff where there are kinds. And one entry per draw: its sections as
        in the metrics, its IoU per class, and its clusters' classes. Both empty without draws.
    """
    listing = []
    for number, (fitted, counts) in enumerate(zip(matched_on, scored, strict=True)):
        assignment = hungarian(fitted)
        matched = assignment.apply(counts)
        ious = zip(names, per_class_iou(matched), strict=True)
        listing.append(
            {
                "draw": number,
                **score(matched, kinds),
                "per_class": {name: float(iou) for name, iou in ious if np.isfinite(iou)},
                "class_of_cluster": list(assignment.class_of_cluster),
            }
        )
    return _summarise(listing), listing


def _summarise(listing: list[dict[str, Any]]) -> dict[str, float]:
    if not listing:
        return {}
    summary: dict[str, float] = {"count": len(listing)}
    for name, (section, figure) in _FIGURES.items():
        values = [entry[section][figure] for entry in listing if section in entry]
        if values:
            summary[f"{name}_mean"] = float(np.mean(values))
        if len(values) > 1:
            summary[f"{name}_sd"] = float(np.std(values, ddof=1))
    return summary
