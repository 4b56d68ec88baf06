"""Stage `evaluate`: label maps for all images, and, where there are masks, every figure from one matrix."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.errors import ParamsError
from pipeline.evaluation.boundary import BoundaryCounts
from pipeline.evaluation.counting import CountedImage, Counts, Segmented, add_up, count_images
from pipeline.evaluation.draws import matching_split, score_draws
from pipeline.evaluation.figures import check_finite, confusion_file, describe_frame, rule_notes, split_figures
from pipeline.evaluation.floors import floor_metrics
from pipeline.evaluation.gallery import choose_exhibits, write_gallery
from pipeline.evaluation.label_maps import FOLDER, read_shards
from pipeline.evaluation.matching import Assignment, hungarian, majority
from pipeline.evaluation.metrics import cluster_statistics
from pipeline.evaluation.truth import GroundTruth
from pipeline.evaluation.variants import describe_variants, score_variants
from pipeline.params import EvaluateParams
from pipeline.runtime.artifacts import write_json

TILES_NOTE = "what several tiles show is scored once, in the tile where it lies further from the border"
FLOOR_PIXELS = 100_000  # sample that the colour and position k-means is fitted on
Gather = Callable[[Iterable[CountedImage]], Iterator[CountedImage]]


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
    gather: Gather = iter,
) -> dict[str, Any]:
    """Write label maps, gallery, cluster sizes, and the figures if there are masks.

    Args:
        segmented: (index, uint8 image (3, h, w), cluster ids (h, w), those of each further final clustering, and of
            each variant by name) for every usable image, in order; draws may be empty for images outside
            `drawn_images`, and variants outside `scored_images`.
        table: All images; the indices count its usable ones.
        truth: The masks, or None.
        k: Number of clusters K.
        params: Group `evaluate`.
        out: The folder to fill.
        rows: Gets the rows of each table.
        frame: Gives the usable image of an index again, uint8 (3, h, w), for the floors.
        log: Gets warnings.
        gather: Given the counts of the images of this process, gives those of all images in order; nothing in a process
            that only helps.

    Returns:
        The metrics, as in `metrics.json`; empty in a process that only helps.

    Raises:
        InputError: Masks exist but hold no pixel to score, or a mask is unusable.
        ParamsError: Matching was asked for on a split without masks.
    """
    usable = table.select(None)
    in_split = [
        row.image_id for row in usable if truth is None or (row.split in truth.splits and truth.has(row.image_id))
    ]
    counted = count_images(segmented, usable, truth, k, choose_exhibits(in_split, params.gallery))
    counts = add_up(gather(counted), truth, k, out, rows)
    if not counts.pixels:
        return {}
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


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """The two numbers for the log line: clusters used, and the mIoU if there is one; none of no metrics."""
    used = {"clusters used": metrics["clusters"]["used"]} if metrics else {}
    return used | ({"mIoU": round(metrics["all"]["miou"], 2)} if "all" in metrics else {})


def _score(
    truth: GroundTruth,
    counts: Counts,
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
    metrics |= score_variants(counts.variants, assignment, classes, params)
    metrics["protocol"]["resolution"] = table.frame.side
    if draws:
        metrics["draws"] = summary
        write_json(out / "draws.json", draws)
    protocol = {
        **rule_notes(matrix, assignment, classes, metrics),
        "protocol": classes.protocol or "folder: the classes of classes.json",
        "split": split,
        "matched_on": match_split,
        "checkpoint_rule": "the last epoch; none is chosen on labels",
        "frame": describe_frame(table.frame),
        **({"tiles": TILES_NOTE} if truth.tiled else {}),
        "labels": "read by this stage for the first time",
        "colour_position_kmeans": floors.describe(),
        **describe_variants(params),
    }
    if params.boundary:
        scored = {row.image_id for row in usable if row.split in truth.splits and truth.has(row.image_id)}
        boundaries = _count_boundaries(truth, assignment, out, scored)
        metrics["boundary"] = boundaries.figures(classes.names)
        protocol["boundary"] = boundaries.describe()
    write_json(out / "confusion.json", confusion_file(matrix, assignment, classes))
    return metrics, protocol, assignment


def _count_boundaries(truth: GroundTruth, assignment: Assignment, out: Path, scored: Collection[str]) -> BoundaryCounts:
    """Read the label maps again: only after all images are counted is it known which clusters are which class."""
    void = len(truth.classes.names)
    class_of_cluster, counts = assignment.lookup_table(void), BoundaryCounts(void)
    for found in read_shards(sorted((out / FOLDER).glob("*.parquet")), scored):
        counts.add(truth.read(found.image_id), class_of_cluster[found.decode()], truth.classes.ignore_index)
    return counts


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
