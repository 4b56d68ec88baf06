"""Stage `probe`: how much of the classes a frozen map holds, told by simple classifiers that see labels."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.data.loading import FrameDataset
from pipeline.data.manifest import ImageTable
from pipeline.labels.division import Division
from pipeline.labels.knn_probe import KnnProbe
from pipeline.labels.labelled import LabelledFrames
from pipeline.labels.linear_probe import fit_linear
from pipeline.labels.pixels import Encode, sample_pixels
from pipeline.labels.scoring import Scores, count_predictions, score_classes
from pipeline.params import ProbeParams


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
    classes = division.truth.classes
    # every image is needed once, so that no frame is kept
    learnt = LabelledFrames(FrameDataset(division.learnt, table, 0), division.truth)
    scored = LabelledFrames(FrameDataset(division.scored, table, 0), division.truth)
    pixels = sample_pixels(
        learnt.batches(params.batch_size, workers, device),
        encode,
        learnt.mask,
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
    matrices = count_predictions(
        scored.batches(params.batch_size, workers, device), encode, probes, scored.mask, classes
    )
    return {
        "probes": {name: score_classes(matrix, classes) for name, matrix in matrices.items()},
        "learnt_images": len(division.learnt),
        "learnt_pixels": len(pixels.labels),
        "scored_images": len(division.scored),
        "split": division.split,
        "leaked": len(table.find_leaked()),
        "labels": "read to fit the probes; the map was learnt without them and stays as it is",
    }
