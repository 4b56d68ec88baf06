"""Stage `evaluate`: label maps for all images, and, where there are masks, every figure from one matrix."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.errors import ParamsError
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.draws import count_draws, matching_split, score_draws
from pipeline.evaluation.figures import check_finite, confusion_file, describe_frame, rule_notes, split_figures
from pipeline.evaluation.floors import floor_metrics
from pipeline.evaluation.gallery import Exhibit, choose_exhibits, write_gallery
from pipeline.evaluation.label_maps import LabelMapWriter
from pipeline.evaluation.matching import Assignment, hungarian, majority
from pipeline.evaluation.metrics import cluster_statistics
from pipeline.evaluation.refined import RefinedCounts, describe_refinement
from pipeline.evaluation.truth import GroundTruth
from pipeline.params import EvaluateParams
from pipeline.runtime.artifacts import write_json

TILES_NOTE = "what several tiles show is scored once, in the tile where it lies further from the border"
FLOOR_PIXELS = 100_000  # sample that the colour and position k-means is fitted on
Segmented = Iterable[tuple[int, Any, np.ndarray, Sequence[np.ndarray], np.ndarray | None]]


@dataclass
class _Counts:
    """What one pass over the images collects."""

    matrices: dict[str, np.ndarray]  # (C, K) per split
    draws: dict[str, np.ndarray]  # (R, C, K) per split
    pixels: dict[str, np.ndarray]  # (K,) per split, ignored pixels included
    images: ImageCounts  # of the scored split
    refined: RefinedCounts  # of the scored split
    exhibits: list[Exhibit]

    def join(self, truth: GroundTruth) -> None:
        """Add the union of the scored splits, if they are several."""
        tables: tuple[dict[str, Any], ...] = (self.matrices, self.draws, self.pixels)
        for counted in tables:
            parts = [counted[name] for name in truth.splits if name in counted]
            if len(truth.splits) > 1 and parts:
                counted[truth.split] = sum(parts[1:], parts[0])


def evaluate_segmenter(
    segmented: Segmented,
    *,
    table: ImageTable,
    truth: GroundTruth | None,
    k: int,
    params: EvaluateParams,
    out: Path,
    rows: dict[str, int],
    frame: Callable[[int], np.ndarray],
    log: logging.Logger,
) -> dict[str, Any]:
    """Write label maps, gallery, cluster sizes, and the figures if there are masks.

    Args:
        segmented: (index, uint8 image (3, h, w), cluster ids (h, w), those of each further final clustering, refined
            ones) for every usable image, in order; draws may be empty for images outside `drawn_images`, and the last
            be None outside `scored_images`.
        table: All images; the indices count its usable ones.
        truth: The masks, or None.
        k: Number of clusters K.
        params: Group `evaluate`.
        out: The folder to fill.
        rows: Gets the rows of each table.
        frame: Gives the usable image of an index again, uint8 (3, h, w), for the floors.
        log: Gets warnings.

    Returns:
        The metrics, as in `metrics.json`.

    Raises:
        InputError: Masks exist but hold no pixel to score, or a mask is unusable.
        ParamsError: Matching was asked for on a split without masks.
    """
    usable = table.select(None)
    in_split = [
        row.image_id for row in usable if truth is None or (row.split in truth.splits and truth.has(row.image_id))
    ]
    counts = _collect(segmented, usable, truth, k, choose_exhibits(in_split, params.gallery), out, rows)
    total = np.sum(list(counts.pixels.values()), axis=0)
    if truth:
        counts.join(truth)
    metrics: dict[str, Any] = {"data": {"leaked": len(table.find_leaked())}}
    protocol: dict[str, Any] = {
        "labels": "none: no masks were found, so nothing is scored",
        "frame": describe_frame(table.frame),
    }
    assignment = None
    if truth:
        figures, protocol, assignment = _score(truth, counts, table, usable, params, frame, out)
        metrics |= figures
        shown = counts.pixels[truth.split]
    else:
        log.info("no masks: writing label maps and statistics only")
        shown = total
    metrics["clusters"] = cluster_statistics(shown)
    matched = assignment.class_of_cluster if assignment else None
    names = truth.classes.names if truth else ()
    write_gallery(
        counts.exhibits, out / "gallery", k=k, classes=len(names) if truth else None, class_of_cluster=matched
    )
    write_json(out / "clusters.json", _describe_clusters(total, matched, names))
    check_finite(metrics)
    write_json(out / "metrics.json", metrics)
    write_json(out / "protocol.json", protocol)
    return metrics


def _collect(
    segmented: Segmented,
    usable: list[ImageRow],
    truth: GroundTruth | None,
    k: int,
    chosen: set[str],
    out: Path,
    rows: dict[str, int],
) -> _Counts:
    C = len(truth.classes.names) if truth else 0
    counts = _Counts({}, {}, {}, ImageCounts(C), RefinedCounts(np.zeros((C, k), np.int64)), [])
    maps = LabelMapWriter(out, rows)
    for index, image, labels, draws, refined in segmented:
        row = usable[index]
        maps.add(row.image_id, row.split, labels)
        sizes = np.bincount(labels.ravel(), minlength=k).astype(np.int64)
        counts.pixels[row.split] = counts.pixels.get(row.split, 0) + sizes
        mask = None
        if truth and truth.has(row.image_id):
            mask = truth.read(row.image_id)
            sizes_of = {"classes": len(truth.classes.names), "k": k, "ignore_index": truth.classes.ignore_index}
            matrix = confusion_matrix(mask, labels, **sizes_of)
            counts.matrices[row.split] = counts.matrices.get(row.split, 0) + matrix
            counts.draws[row.split] = counts.draws.get(row.split, 0) + count_draws(mask, draws, **sizes_of)
            if row.split in truth.splits:
                counts.images.add(matrix)
                if refined is not None:
                    counts.refined.add(confusion_matrix(mask, refined, **sizes_of), labels != refined)
        if row.image_id in chosen:
            counts.exhibits.append(Exhibit(row.image_id, row.split, np.asarray(image), labels, mask))
    maps.flush()
    return counts


def _score(
    truth: GroundTruth,
    counts: _Counts,
    table: ImageTable,
    usable: list[ImageRow],
    params: EvaluateParams,
    frame: Callable[[int], np.ndarray],
    out: Path,
) -> tuple[dict[str, Any], dict[str, Any], Assignment]:
    classes, split = truth.classes, truth.split
    match_split = matching_split(truth, params)
    if match_split not in counts.matrices:
        raise ParamsError(f"evaluate.match_on: {params.match_on!r} needs masks in split train, which has none; use val")
    matrix = counts.matrices[split]
    assignment = hungarian(counts.matrices[match_split])
    metrics = split_figures(
        counts.images,
        range(matrix.shape[1]),
        assignment=assignment,
        many_to_one=majority(counts.matrices[match_split]),
        classes=classes,
        seed=params.seed,
    )

    def frames_with_truth() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index, row in enumerate(usable):
            if row.split in truth.splits and truth.has(row.image_id):
                yield frame(index), truth.read(row.image_id)

    def train_images() -> Iterator[np.ndarray]:
        return (frame(index) for index, row in enumerate(usable) if row.split == "train")

    floors = floor_metrics(
        frames_with_truth,
        fitting=train_images,
        classes=len(classes.names),
        ignore_index=classes.ignore_index,
        seed=params.seed,
        restarts=params.floor_restarts,
        seeds=params.floor_seeds,
        sample_pixels=FLOOR_PIXELS,
    )
    summary, draws = score_draws(counts.draws[match_split], counts.draws[split], classes.names, classes.kinds)
    metrics["floors"] = floors.figures
    if params.refine.iterations:
        metrics["refined"] = counts.refined.figures(assignment, classes, params.refine)
    metrics["protocol"]["resolution"] = table.frame.side
    if draws:
        metrics["draws"] = summary
        write_json(out / "draws.json", draws)
    protocol = {
        **rule_notes(matrix, assignment, classes),
        "protocol": classes.protocol or "folder: the classes of classes.json",
        "split": split,
        "matched_on": match_split,
        "checkpoint_rule": "the last epoch; none is chosen on labels",
        "frame": describe_frame(table.frame),
        **({"tiles": TILES_NOTE} if truth.tiled else {}),
        "labels": "read by this stage for the first time",
        "colour_position_kmeans": floors.describe(),
    }
    if params.refine.iterations:
        protocol["refined"] = describe_refinement(params.refine)
    write_json(out / "confusion.json", confusion_file(matrix, assignment, classes))
    return metrics, protocol, assignment


def _describe_clusters(
    pixels: np.ndarray, matched: tuple[int, ...] | None, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    return [
        {
            "cluster": cluster,
            "pixels": int(count),
            "share": 100 * float(count) / float(max(pixels.sum(), 1)),
            "class": names[matched[cluster]] if matched and matched[cluster] >= 0 else None,
        }
        for cluster, count in enumerate(pixels)
    ]
