"""How time and memory grow with images and with rows of features: exponents over a factor of 16 and of 200."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import MEGABYTE, REPEATS, Row, peak_memory
from benchmarks.samples import draw_points
from pipeline.backbones.encoder import build_encoder
from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.kmeans import assign
from pipeline.clustering.sharded import fit_sharded
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.label_maps import LabelMapWriter, encode_labels
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.store import FeatureStore
from pipeline.params import load_params

IMAGES, ROWS = (250, 1000, 4000), (10_000, 100_000, 2_000_000)
SIDE, MAP, D, K, PART = 32, 128, 32, 27, 50_000
Call = Callable[[Path], object]


def measure_rows() -> list[Row]:
    """Two figures a stage: the exponent of its time, and its memory at the largest size by that at the middle one."""
    stages: list[tuple[str, tuple[int, ...], Callable[[int], Call]]] = [
        ("extract", IMAGES, _extract),
        ("cluster", ROWS, _cluster),
        ("evaluate", IMAGES, _evaluate),
    ]
    return [row for name, sizes, prepare in stages for row in _measure(name, sizes, prepare)]


def _measure(name: str, sizes: tuple[int, ...], prepare: Callable[[int], Call]) -> list[Row]:
    seconds, peaks = [], []
    for size in (sizes[0], *sizes):  # the first once more, to warm up
        call = prepare(size)
        seconds.append(min(_seconds(call) for _ in range(REPEATS)))
        peaks.append(min(_peak(call) for _ in range(REPEATS)))  # the allocator's arenas differ from run to run
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds[1:]), 1)[0])
    largest, middle = (peak / MEGABYTE for peak in (peaks[-1], peaks[-2]))
    what = f"{name}, {sizes[0]:,} to {sizes[-1]:,}"
    return [
        Row(f"{what}: exponent of time", f"{sizes[0]:,}", seconds[-1], seconds[1], "s", exponent, "1 ± 0.1"),
        Row(f"{what}: memory", f"{sizes[1]:,}", largest, middle, "MB", largest / middle, "<= 1.1"),
    ]


def _seconds(call: Call) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        call(Path(folder))
        return time.process_time() - begin


def _peak(call: Call) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return peak_memory(lambda: call(Path(folder)))


def _extract(size: int) -> Call:
    params = load_params().extract
    device = torch.device("cpu")
    encode = freeze_encoder(build_encoder("resnet18", 64, 0), "decoder", device=device, precision=params.precision)
    keys = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(size)]
    images = Images([f"{index:06d}" for index in range(size)], keys, [(SIDE, SIDE)] * size, [True] * size)

    def load(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            yield batch, torch.full((len(batch), 3, SIDE, SIDE), batch[0] % 256, dtype=torch.uint8)

    def run(folder: Path) -> None:
        out, store = folder / "out", FeatureStore(folder / "store")
        out.mkdir()
        log = logging.getLogger("benchmarks")
        settings = {"dimension": 64, "params": params, "metadata": {}, "check_stop": lambda: None, "log": log}
        extract_features(images, load, encode, out=out, store=store, **settings)

    return run


def _cluster(size: int) -> Call:
    def parts() -> Iterator[np.ndarray]:
        for first in range(0, size, PART):
            yield draw_points(min(PART, size - first), D, first)

    def run(folder: Path) -> None:
        points = FilePoints(folder, parts())
        settings = {"iterations": 2, "restarts": 1, "seed": 0}
        fit = fit_sharded(points, K, **settings, scratch=folder, check_stop=lambda: None)
        for chunk in points.chunks():
            assign(chunk, fit.centroids, spherical=True)

    return run


def _evaluate(size: int) -> Call:
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, K, (16, 16)), np.ones((8, 8), int)).astype(np.int32)
    clusters = np.kron(rng.integers(0, K, (16, 16)), np.ones((8, 8), int))

    def run(folder: Path) -> None:
        writer, total = LabelMapWriter(folder, {}), np.zeros((K, K), np.int64)
        for index in range(size):
            writer.add(f"{index:06d}", "val", encode_labels(clusters))
            total += confusion_matrix(truth, clusters, classes=K, k=K, ignore_index=255)
        writer.flush()

    return run
