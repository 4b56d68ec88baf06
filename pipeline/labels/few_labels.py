"""Stage `finetune`: mIoU as a function of the number of labelled images, pre-trained and from random weights."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.loading import FrameDataset
from pipeline.data.manifest import ImageTable
from pipeline.labels.division import Division
from pipeline.labels.finetuning import finetune
from pipeline.labels.labelled import LabelledFrames
from pipeline.labels.maps import build_body, freeze_body, load_body, map_channels
from pipeline.labels.network import LabelledNet
from pipeline.labels.scoring import count_predictions, score_classes
from pipeline.params import FinetuneParams, MapSource, RunParams
from pipeline.runtime.artifacts import Artifact, replace_file
from pipeline.runtime.randomness import generator

STARTS = ("pretrained", "random")
FIGURES = ("miou", "pixel_accuracy", "mean_accuracy")


@dataclass(frozen=True)
class Net:
    """Which network is trained; its folder is only read, each training gets a copy."""

    source: MapSource
    artifact: Artifact


def count_images(fractions: Sequence[float], labelled: int) -> list[int]:
    """Numbers of images to learn from: at least one each, ascending, each once.

    Args:
        fractions: Shares in (0, 1].
        labelled: How many labelled images there are, at least 1.
    """
    return sorted({max(1, round(fraction * labelled)) for fraction in fractions})


def choose_images(labelled: int, count: int, seed: int) -> list[int]:
    """The images of one seed; a larger number holds those of a smaller one."""
    return sorted(generator(seed, "labels/order").permutation(labelled)[:count].tolist())


def measure_few_labels(
    net: Net,
    division: Division,
    *,
    table: ImageTable,
    params: FinetuneParams,
    run: RunParams,
    device: torch.device,
    scratch: Path,
    check_stop: Callable[[], None],
    log: logging.Logger,
) -> dict[str, Any]:
    """Train and score every combination of number of images, seed and start; go on where an interrupted run stopped.

    Args:
        net: The pre-trained network.
        division: Which images are learnt and which scored.
        table: All images.
        params: Group `finetune`.
        run: Workers and memory.
        device: Where to compute.
        scratch: Keeps finished points of an interrupted run.
        check_stop: Asked after every step.
        log: Gets one line per point.

    Returns:
        For `curve.json`: the points, their means, and what they were made from.
    """
    grant = run.cache_mb * 10**6 // 2
    learnt, scored = (
        LabelledFrames(FrameDataset(rows, table, grant), division.truth) for rows in (division.learnt, division.scored)
    )
    counts = count_images(params.fractions, len(division.learnt))
    points = []
    for images, seed, start in _combinations(counts, params):
        kept = scratch / f"point-{images}-{seed}-{start}.json"
        if kept.is_file():
            points.append(json.loads(kept.read_text("utf-8")))
            continue
        body = (
            load_body(net.source, net.artifact) if start == "pretrained" else build_body(net.source, net.artifact, seed)
        )
        classes = division.truth.classes
        model = LabelledNet(body, map_channels(net.source, net.artifact), len(classes.names), seed)
        chosen = choose_images(len(division.learnt), images, seed)
        finetune(
            model,
            learnt,
            chosen,
            params,
            learning_rate=params.learning_rate if start == "pretrained" else params.random_learning_rate,
            ignore_index=classes.ignore_index,
            seed=seed,
            device=device,
            check_stop=check_stop,
        )
        encode = freeze_body(model.body, device=device, precision=params.precision)
        batches = scored.batches(params.batch_size, run.workers, device)
        matrices = count_predictions(batches, encode, {"net": model.head}, scored.mask, classes)
        figures = score_classes(matrices["net"], classes)["all"]
        point = {"images": images, "seed": seed, "start": start, **{name: figures[name] for name in FIGURES}}
        replace_file(kept, json.dumps(point).encode())
        log.info("%d labelled images, seed %d, %s: mIoU %.1f", images, seed, start, figures["miou"])
        points.append(point)
    return {
        "points": points,
        "means": summarise(points),
        "labelled_images": len(division.learnt),
        "scored_images": len(division.scored),
        "split": division.split,
        "leaked": len(table.find_leaked()),
        "checkpoint_rule": "the last step; none is chosen on labels",
    }


def summarise(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation of mIoU over the seeds, by start and number of images.

    Returns:
        One entry per curve point: `start`, `images`, `seeds`, `miou_mean` and `miou_sd` (0 for one seed).
    """
    means = []
    for start in STARTS:
        for images in sorted({point["images"] for point in points if point["start"] == start}):
            values = [p["miou"] for p in points if p["start"] == start and p["images"] == images]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            entry = {"start": start, "images": images, "seeds": len(values)}
            means.append({**entry, "miou_mean": float(np.mean(values)), "miou_sd": spread})
    return means


def points_csv(points: Sequence[dict[str, Any]]) -> str:
    """The points as CSV, one line each."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["start", "images", "seed", *FIGURES], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point, **{name: f"{point[name]:.4f}" for name in FIGURES}} for point in points)
    return text.getvalue()


def _combinations(counts: list[int], params: FinetuneParams) -> Iterator[tuple[int, int, str]]:
    for images in counts:
        for seed in range(params.seed, params.seed + params.seeds):
            for start in STARTS:
                yield images, seed, start
