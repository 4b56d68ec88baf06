"""Stage `probe`: how much of the classes a frozen map holds, told by simple classifiers that see labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from pipeline.data.loading import FrameDataset, load_batches, ordered_batches
from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.evaluation.truth import GroundTruth
from pipeline.labels.division import Division
from pipeline.labels.knn_probe import KnnProbe
from pipeline.labels.linear_probe import fit_linear
from pipeline.labels.pixels import Encode, sample_pixels
from pipeline.labels.scoring import Scores, count_predictions, score_classes
from pipeline.params import ProbeParams

Loaded = Iterator[tuple[list[int], torch.Tensor]]


def run_probes(
    encode: Encode,
    division: Division,
    *,
    table: ImageTable,
    params: ProbeParams,
    workers: int,
    device: torch.device,
) -> dict[str, Any]:
    """Fit the probes on the learnt images, score them on the others.

    Args:
        encode: The frozen map, from uint8 (B, 3, H, W) to float32 (B, D, h, w).
        division: Which images are learnt and which scored.
        table: All images.
        params: Group `probe`.
        workers: Processes that decode.
        device: Where the linear probe is fitted.

    Returns:
        For `probe.json`: the figures by kind of probe, and what they were made from.

    Raises:
        InputError: No pixel to learn from or to score.
    """
    truth, classes = division.truth, division.truth.classes
    load = partial(_load, table=table, batch_size=params.batch_size, workers=workers)
    pixels = sample_pixels(
        load(division.learnt),
        encode,
        _mask_reader(division.learnt, truth),
        images=len(division.learnt),
        count=params.pixels,
        ignore_index=classes.ignore_index,
        seed=params.seed,
    )
    probes: dict[str, Scores] = {}
    if "linear" in params.kinds:
        probes["linear"] = fit_linear(
            pixels,
            len(classes.names),
            iterations=params.iterations,
            weight_decay=params.weight_decay,
            device=device,
        ).scores
    if "knn" in params.kinds:
        probes["knn"] = KnnProbe(
            pixels,
            len(classes.names),
            count=params.knn_pixels,
            neighbours=params.neighbours,
            temperature=params.temperature,
            seed=params.seed,
        ).scores
    matrices = count_predictions(load(division.scored), encode, probes, _mask_reader(division.scored, truth), classes)
    return {
        "probes": {name: score_classes(matrix, classes) for name, matrix in matrices.items()},
        "learnt_images": len(division.learnt),
        "learnt_pixels": len(pixels.labels),
        "scored_images": len(division.scored),
        "split": division.split,
        "leaked": len(table.find_leaked()),
        "labels": "read to fit the probes; the map was learnt without them and stays as it is",
    }


def _load(rows: list[ImageRow], *, table: ImageTable, batch_size: int, workers: int) -> Loaded:
    dataset = FrameDataset(rows, table, 0)  # every image is needed once
    return load_batches(dataset, ordered_batches(dataset.sizes, batch_size), workers=workers)


def _mask_reader(rows: list[ImageRow], truth: GroundTruth) -> Callable[[int], Any]:
    return lambda index: truth.read(rows[index].image_id)
