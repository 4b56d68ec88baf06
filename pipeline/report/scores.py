"""Scores as rows for the page: the verdict, the headline table, classes, and the confusion in class order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.matching import UNMATCHED, Assignment

FLOOR_NAMES = {
    "colour_position_kmeans": "k-means on colour and position",
    "majority_class": "most frequent class everywhere",
    "random": "random clusters",
}
_SECTION_NAMES = {"all": "All classes", "things": "Things", "stuff": "Stuff"}


@dataclass(frozen=True)
class ScoreRow:
    """One row of the headline table: figures in percent, with `_sd` their standard deviations; any may be missing."""

    name: str
    note: str
    figures: dict[str, Any]
    kind: str  # run, draws, refined, flip_averaged, bound or floor


@dataclass(frozen=True)
class Verdict:
    """The result in one sentence, and the numbers that it rests on."""

    sentence: str
    beats_floors: bool
    miou: float
    best_floor: float
    best_floor_name: str


@dataclass(frozen=True)
class ClassRow:
    """One class: its IoU, recall and boundary F1 in percent, None where undefined, and its share of the truth."""

    name: str
    kind: str | None
    cluster: int | None
    share: float
    iou: float | None
    recall: float | None
    boundary: float | None = None


@dataclass(frozen=True)
class Confusion:
    """Shares in percent of each class's pixels by predicted class, the last column for unmatched clusters."""

    names: list[str]
    clusters: list[int | None]
    shares: list[list[float]]
    unmatched: list[int]


def judge(metrics: dict[str, Any]) -> Verdict:
    """Say in plain words whether a run beats the floors in mIoU.

    Args:
        metrics: Contents of `metrics.json` with scores.

    Returns:
        The verdict.
    """
    miou = metrics["all"]["miou"]
    name = max(sorted(metrics["floors"]), key=lambda floor: metrics["floors"][floor]["miou"])
    floor = metrics["floors"][name]["miou"]
    shown = FLOOR_NAMES.get(name, name.replace("_", " "))
    gap = miou - floor
    if gap > 0:
        ending = f"{gap:.1f} points above the best floor ({shown}, {floor:.1f}\u00a0%): it beats all floors."
    elif gap < 0:
        ending = f"{-gap:.1f} points below the best floor ({shown}, {floor:.1f}\u00a0%): it does not beat the floors."
    else:
        ending = f"equal to the best floor ({shown}): it does not beat the floors."
    return Verdict(f"The segmentation reaches mIoU {miou:.1f}\u00a0%, {ending}", gap > 0, miou, floor, shown)


def score_rows(metrics: dict[str, Any]) -> list[ScoreRow]:
    """The rows of the headline table: this run by section, the many-to-one bound, then the floors, best first."""
    rows = [
        ScoreRow(
            f"This run: {title.lower()}",
            "Hungarian, one to one" + (_interval(metrics.get("bootstrap", {})) if section == "all" else ""),
            metrics[section],
            "run",
        )
        for section, title in _SECTION_NAMES.items()
        if section in metrics
    ]
    rows += _draw_rows(metrics.get("draws", {}))
    rows += _refined_rows(metrics.get("refined", {})) + _averaged_rows(metrics.get("flip_averaged", {}))
    if "majority" in metrics:
        note = "many to one: an upper bound that grows with the number of clusters, not a score"
        rows.append(ScoreRow("This run: majority", note, metrics["majority"], "bound"))
    floors = sorted(metrics["floors"].items(), key=lambda item: (-item[1]["miou"], item[0]))
    rows += [
        ScoreRow(
            f"Floor: {FLOOR_NAMES.get(name, name.replace('_', ' '))}",
            "learns nothing; mean ± sd over seeds" if "miou_sd" in figures else "learns nothing",
            figures,
            "floor",
        )
        for name, figures in floors
    ]
    return rows


def _interval(bootstrap: dict[str, float]) -> str:
    """How far other images of the kind would move the mIoU."""
    if not bootstrap:
        return ""
    return f"; 95\u00a0% interval over images {bootstrap['miou_low']:.1f}–{bootstrap['miou_high']:.1f} in mIoU"


def _draw_rows(draws: dict[str, float]) -> list[ScoreRow]:
    """The mean over further final clusterings, which tells how lucky the chosen one is."""
    rows = []
    for prefix, title in (("", "all classes"), ("things_", "things"), ("stuff_", "stuff")):
        figures = {
            figure + ending: draws[f"{prefix}{figure}_{statistic}"]
            for figure in ("miou", "pixel_accuracy")
            for ending, statistic in (("", "mean"), ("_sd", "sd"))
            if f"{prefix}{figure}_{statistic}" in draws
        }
        if figures:
            note = f"mean ± sd over {draws['count']} final clusterings of the same network"
            rows.append(ScoreRow(f"Any clustering: {title}", note, figures, "draws"))
    return rows


def _refined_rows(refined: dict[str, Any]) -> list[ScoreRow]:
    """The same network and match after the local CRF, with its parameters."""
    used = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in refined.get("parameters", {}).items())
    return [
        ScoreRow(
            f"Refined: {title.lower()}",
            f"local CRF over the same scores, same match; {refined['changed']:.1f}\u00a0% of pixels changed; {used}",
            refined[section],
            "refined",
        )
        for section, title in _SECTION_NAMES.items()
        if section in refined
    ]


def _averaged_rows(averaged: dict[str, Any]) -> list[ScoreRow]:
    """The same network and match, with scores averaged over each image and its mirror image."""
    return [
        ScoreRow(
            f"Flip-averaged: {title.lower()}",
            "mean of the scores of image and mirror image, same match; "
            f"{averaged['changed']:.1f}\u00a0% of pixels changed",
            averaged[section],
            "flip_averaged",
        )
        for section, title in _SECTION_NAMES.items()
        if section in averaged
    ]


def class_rows(
    confusion: dict[str, Any], per_class: dict[str, float], boundary: dict[str, float] | None = None
) -> list[ClassRow]:
    """Describe every class, in class order.

    Args:
        confusion: Contents of `confusion.json`.
        per_class: IoU in percent by class name; classes that are not counted are left out.
        boundary: Boundary F1 in percent by class name, likewise; None where it was not computed.

    Returns:
        One row per class.
    """
    matrix, assignment = _counts(confusion)
    matched, sizes = assignment.apply(matrix), matrix.sum(axis=1)
    cluster_of_class = {c: k for k, c in enumerate(assignment.class_of_cluster) if c != UNMATCHED}
    kinds = confusion["kinds"] or [None] * len(sizes)
    return [
        ClassRow(
            name=name,
            kind=kinds[c],
            cluster=cluster_of_class.get(c),
            share=100.0 * int(sizes[c]) / max(int(sizes.sum()), 1),
            iou=per_class.get(name),
            recall=100.0 * int(matched[c, c]) / int(sizes[c]) if sizes[c] else None,
            boundary=(boundary or {}).get(name),
        )
        for c, name in enumerate(confusion["classes"])
    ]


def order_confusion(confusion: dict[str, Any]) -> Confusion:
    """Bring the columns of the confusion matrix into class order.

    Args:
        confusion: Contents of `confusion.json`.

    Returns:
        Shares by class and predicted class; a class without pixels has zeros.
    """
    matrix, assignment = _counts(confusion)
    matched = assignment.apply(matrix)
    cluster_of_class = {c: k for k, c in enumerate(assignment.class_of_cluster) if c != UNMATCHED}
    return Confusion(
        names=list(confusion["classes"]),
        clusters=[cluster_of_class.get(c) for c in range(len(matched))],
        shares=(100.0 * matched / np.maximum(matched.sum(axis=1, keepdims=True), 1)).tolist(),
        unmatched=[k for k, c in enumerate(assignment.class_of_cluster) if c == UNMATCHED],
    )


def main_class_of_clusters(confusion: dict[str, Any]) -> list[tuple[str, float] | None]:
    """Say what each cluster mostly covers.

    Args:
        confusion: Contents of `confusion.json`.

    Returns:
        Per cluster the class with most of its pixels and its share of them in percent; None without pixels.
    """
    matrix, _ = _counts(confusion)
    totals, winners = matrix.sum(axis=0), matrix.argmax(axis=0)
    return [
        (confusion["classes"][winner], 100.0 * int(matrix[winner, cluster]) / int(total)) if total else None
        for cluster, (winner, total) in enumerate(zip(winners.tolist(), totals.tolist(), strict=True))
    ]


def _counts(confusion: dict[str, Any]) -> tuple[NDArray[np.int64], Assignment]:
    matrix = np.asarray(confusion["matrix"], dtype=np.int64)  # (C, K)
    return matrix, Assignment("as stored", tuple(confusion["class_of_cluster"]))
