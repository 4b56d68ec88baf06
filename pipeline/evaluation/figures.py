"""What `metrics.json`, `protocol.json` and `confusion.json` say of any scored segmentation, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clustering.partition import adjusted_rand_index, normalised_mutual_information
from pipeline.data.classes import ClassList
from pipeline.data.frames import Frame
from pipeline.errors import InputError
from pipeline.evaluation.bootstrap import RESAMPLES, ImageCounts, bootstrap_intervals
from pipeline.evaluation.matching import Assignment, describe_rule
from pipeline.evaluation.metrics import absent_classes, classes_counted, per_class_iou, score, score_restricted


def split_figures(
    images: ImageCounts,
    clusters: Sequence[int],
    *,
    assignment: Assignment,
    many_to_one: Assignment,
    classes: ClassList,
    seed: int,
) -> dict[str, Any]:
    """Compute every figure that follows from the confusion matrices of a split.

    Args:
        images: the matrices of the scored images.
        clusters: ids of the K clusters in rising order.
        assignment: the match of the headline.
        many_to_one: the match by majority, made on the same split as `assignment`.
        classes: the classes.
        seed: determines the resampling of images.

    Returns:
        Groups of `metrics.json`, finite: `all`, `things`, `stuff`, `restricted`, `majority`, `per_class`, `partition`
        (`nmi` and `ari`, from 0 to 1), `bootstrap` and `protocol`. `restricted` is left out without kinds, `bootstrap`
        with fewer than two images.

    Raises:
        InputError: Every pixel is ignored.
    """
    matrix = images.total(clusters)
    if not matrix.any():
        raise InputError(
            f"nothing to evaluate: every pixel of the {len(images)} masks has the ignored id {classes.ignore_index}; "
            "check the masks, or ignore_index in classes.json"
        )
    matched = assignment.apply(matrix)
    ious = zip(classes.names, per_class_iou(matched), strict=True)
    whole = score(many_to_one.apply(matrix), None)["all"]
    figures: dict[str, Any] = {
        **score(matched, classes.kinds),
        "majority": {key: whole[key] for key in ("miou", "pixel_accuracy")},
        "per_class": {name: float(iou) for name, iou in ious if np.isfinite(iou)},
        "partition": {"nmi": normalised_mutual_information(matrix), "ari": adjusted_rand_index(matrix)},
        "protocol": {
            "classes_counted": classes_counted(matched),
            "images": len(images),
            "pixels": int(matrix.sum()),
        },
    }
    if images.tiles > len(images):
        figures["protocol"]["tiles"] = images.tiles
    further = {
        "restricted": score_restricted(matched, classes.kinds),
        "bootstrap": bootstrap_intervals(images.reduce(assignment, clusters), seed),
    }
    return figures | {name: group for name, group in further.items() if group}


def rule_notes(
    matrix: NDArray[np.integer], assignment: Assignment, classes: ClassList, figures: dict[str, Any]
) -> dict[str, str]:
    """The part of `protocol.json` that follows from the scored matrix (C, K) and its match.

    Args:
        matrix: counts of shape (C, K).
        assignment: the match.
        classes: the classes.
        figures: those of `split_figures`; what they leave out is not described.
    """
    absent = absent_classes(assignment.apply(matrix))
    notes = {
        "match_rule": describe_rule(assignment.rule),
        "absent_classes": ", ".join(classes.names[i] for i in absent) or "none",
        "classes_note": classes.note,
    }
    if "bootstrap" in figures:
        notes["bootstrap"] = (
            f"{RESAMPLES} resamples of the images, 95 % percentile interval; the match stays that of all"
        )
    return notes


def describe_frame(frame: Frame) -> str:
    """The part and the resolution that are scored, for `protocol.json`."""
    if frame.crop_size:
        crop = f"centre crop of {frame.crop_size} px"
    else:
        crop = "square centre crop" if frame.crop == "center" else "whole image, trimmed to multiples of 32"
    return f"short side {frame.resize} px, {crop}; images bilinear with antialias, masks nearest"


def confusion_file(matrix: NDArray[np.integer], assignment: Assignment, classes: ClassList) -> dict[str, Any]:
    """Contents of `confusion.json`: the matrix (C, K) before matching, and the class of each cluster."""
    return {
        "classes": list(classes.names),
        "kinds": list(classes.kinds) if classes.kinds else None,
        "matrix": matrix.tolist(),
        "class_of_cluster": list(assignment.class_of_cluster),
    }


def check_finite(value: Any, key: str = "") -> None:
    """Refuse metrics that are no numbers.

    Raises:
        InputError: naming the metric.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            check_finite(inner, f"{key}.{name}" if key else name)
    elif not np.isfinite(value):
        raise InputError(f"metric {key} is {value}; nothing was written, please report this with your params.yaml")
