"""What `fs4 suggest-k` does: measures the stability of clusterings of `data/features`, and writes the result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clustering.sampling import count_cells, gather_cells, sample_rows
from pipeline.clustering.stability import FEWEST_IMAGES, Stability, measure_stability, split_images, suggest
from pipeline.data.manifest import read_images
from pipeline.errors import InputError, ParamsError
from pipeline.params import RunParams
from pipeline.report.stability_page import build_stability_page, explain, stability_table
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact, write_json
from pipeline.runtime.device import thread_count
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger
from pipeline.runtime.stage import library_versions

IMAGES = Path("data/prepared/images.parquet")
FEATURES = Path("data/features")
OUT = Path("data/suggest_k")
USUAL = "2..12,14,16,18,20,24,28,32,36,40"  # closer where one cluster more makes a difference

log = get_logger("suggest-k")


def parse_ks(text: str) -> list[int]:
    """Read numbers of clusters, such as `2..12,16,20`.

    Returns:
        Ascending, each once.

    Raises:
        ParamsError: It is no such list, or holds a number below 2.
    """
    ks: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:\.\.(\d{1,6}))?", part.strip())
        if not match or int(match[1]) < 2 or int(match[2] or match[1]) < int(match[1]):
            raise ParamsError(f"--ks: {part!r} is not accepted; give numbers from 2 up and ranges, such as 2..12,16,20")
        ks.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(ks)


def suggest_k(ks: str | None, level: int | None, rounds: int, cells: int, seed: int, run: RunParams) -> str:
    """Measure, and write `data/suggest_k` with `index.html` and `stability.json`.

    Args:
        ks: Numbers of clusters as for `parse_ks`; None: the usual ones, as far as there are cells for them.
        level: Cells a side of the pyramid level that is clustered; None: the finest.
        rounds: Draws of the halves, at least 2.
        cells: Cells that are used at most, the same share of every train image.
        seed: Determines every draw.
        run: Threads, and how long to wait for another writer.

    Returns:
        The result as text, with the place of the page.

    Raises:
        ParamsError: A number of clusters, or the level, is not possible here.
        InputError: There are no features, or of too few train images.
    """
    asked = parse_ks(USUAL if ks is None else ks)
    if not (FEATURES / "manifest.json").is_file():
        raise InputError(f"{FEATURES}: no features here; run `dvc repro extract` first")
    features = open_artifact(FEATURES)
    level = _level(features, level)
    points, images = _gather(features, level, cells, seed)
    asked = _possible(asked, images, level, rounds, seed, clip=ks is None)
    log.info("%d values of k on %d cells of %d images, level %d", len(asked), len(points), images[-1] + 1, level)
    results = measure_stability(points, images, asked, rounds=rounds, seed=seed, threads=thread_count(run), log=log)
    settings: dict[str, Any] = {
        "level": level,
        "train_images": int(images[-1]) + 1,
        "cells": len(points),
        "rounds": rounds,
        "seed": seed,
        "features": ", ".join(f"{key} {value}" for key, value in features.note("params", "extract").items()),
    }
    with hold(OUT.with_name(f".{OUT.name}.lock"), str(OUT), run.lock_timeout), create_artifact(OUT) as writer:
        writer.notes["versions"] = library_versions()
        _write(writer.path, results, settings)
    suggestion = suggest(results)
    return f"{stability_table(results, suggestion)}\n{explain(results, suggestion)}\nPage: {OUT / 'index.html'}"


def _level(features: Artifact, level: int | None) -> int:
    levels = features.note("params", "extract", "levels")
    if level is not None and level not in levels:
        raise ParamsError(f"--level: {level} is not among the levels {levels} of {FEATURES}; see extract.levels")
    return max(levels) if level is None else level


def _gather(features: Artifact, level: int, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some train cells, float32 (N, D), and the number of the image of each, int64 (N,) from 0 without gaps."""
    train = frozenset(row.image_id for row in read_images(IMAGES).select("train"))
    counts = count_cells(features, train, level)
    chosen = sample_rows(counts, cells, seed)
    _, images = np.unique(np.repeat(np.arange(len(counts)), counts)[chosen], return_inverse=True)
    found = int(images[-1]) + 1 if len(images) else 0
    if found < FEWEST_IMAGES:
        raise InputError(
            f"{FEATURES}: usable cells of {found} train images, and comparing halves of the images needs "
            f"{FEWEST_IMAGES}; add images"
        )
    return gather_cells(features, train, level, chosen), images


def _possible(ks: list[int], images: np.ndarray, level: int, rounds: int, seed: int, clip: bool) -> list[int]:
    """The ks up to half the cells of the smallest half that will be clustered."""
    sizes = np.bincount(images)
    splits = split_images(len(sizes), rounds, seed)
    smallest = min(int(sizes[half].sum()) for *halves, _ in splits for half in halves)
    most = smallest // 2
    if most < 2 or (ks[-1] > most and not clip):
        raise ParamsError(
            f"--ks: {ks[-1]} clusters for halves of {smallest} cells; ask for at most {most} at level {level}, "
            "or take a finer level, more --cells or more images"
        )
    return [k for k in ks if k <= most]


def _write(folder: Path, results: Sequence[Stability], settings: dict[str, Any]) -> None:
    suggestion = suggest(results)
    rows = [
        {**asdict(result), "gap": result.gap, "gap_sd": result.gap_sd, "supported": result.supported}
        for result in results
    ]
    write_json(
        folder / "stability.json",
        {"suggested": suggestion.k, "others": list(suggestion.others), "settings": settings, "results": rows},
    )
    (folder / "index.html").write_text(build_stability_page(results, suggestion, settings), "utf-8")
