"""How time and memory grow with images and with rows of features: exponents over a factor of 16 and of 200.

Every part is the library call that its stage makes, on frames that are made up and so small that the network takes
little. The networks are real, as what they need for a batch is part of the memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import faiss
import numpy as np
import torch
from PIL import Image

import stages  # noqa: F401  (as in every stage)
from benchmarks.measuring import MEGABYTE, REPEATS, Row, peak_memory
from benchmarks.samples import draw_pixels, draw_points
from pipeline.backbones.encoder import build_encoder
from pipeline.clustering.pyramid import cluster_pyramid
from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.evaluation import evaluate
from pipeline.evaluation.truth import open_truth
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import shard_name, write_shard
from pipeline.features.store import FeatureStore
from pipeline.params import load_params
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.segmentation.inference import segment_batches
from pipeline.segmentation.model import build_segmenter

IMAGES, ROWS = (250, 1000, 4000), (10_000, 100_000, 1_000_000, 2_000_000)
SIDE, BATCH, D, K = 32, 32, 128, 27
LEVEL, SHARD = 10, 256  # cells a side; images of a shard of features
FLOOR_PIXELS = 2000
LOG = logging.getLogger("benchmarks")
CPU = torch.device("cpu")
Call = Callable[[Path], object]
Prepared = Callable[[int], contextlib.AbstractContextManager[Call]]


def measure_rows() -> list[Row]:
    """Two figures a stage: the exponent of its time, and its memory at the largest size by that at the one before.

    At both of these sizes all is full that has a fixed size: the buffers of label maps and of shards (from 512 images
    on), and `cluster` takes its points from files (beyond 256 MB; a smaller clustering is in memory by design).
    """
    rows = []
    for stage, (unit, sizes, prepare) in STAGES.items():
        seconds = []
        for size in (sizes[0], *sizes):  # the first once more, to warm up
            with prepare(size) as call:
                seconds.append(min(_seconds(call) for _ in range(REPEATS)))
        exponent = float(np.polyfit(np.log(sizes), np.log(seconds[1:]), 1)[0])
        largest, before = (_peak_alone(stage, size) for size in (sizes[-1], sizes[-2]))
        first, middle, last = (f"{size:,}" for size in (sizes[0], sizes[-2], sizes[-1]))
        time_row = f"{stage}, {first} to {last} {unit}: exponent of time"
        memory_row = f"{stage}, {last} {unit}: anonymous memory"
        rows += [
            Row(time_row, f"{first} {unit}", seconds[-1], seconds[1], "s", exponent, "1 ± 0.1"),
            Row(memory_row, f"{middle} {unit}", largest, before, "MB", largest / before, "1 ± 0.1"),
        ]
    return rows


def _seconds(call: Call) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        call(Path(folder))
        return time.process_time() - begin


def _peak_alone(stage: str, size: int) -> float:
    """Megabytes of a call in a process of its own, which gives freed memory back at once; the lower of two.

    In one process, memory that earlier calls have freed would serve later ones, and the figures differ by half.
    """
    settings = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks.scaling", stage, str(size), str(torch.get_num_threads())]
    found = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | settings).stdout
        for _ in range(2)
    ]
    return min(map(float, found)) / MEGABYTE


def _print_peak(stage: str, size: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    faiss.omp_set_num_threads(int(threads))
    _, sizes, prepare = STAGES[stage]
    with prepare(sizes[0]) as call:
        _seconds(call)  # what is loaded once
    with prepare(int(size)) as call, tempfile.TemporaryDirectory() as folder:
        print(peak_memory(lambda: call(Path(folder))))


@contextlib.contextmanager
def _extract(size: int) -> Iterator[Call]:
    params = load_params().extract
    encode = freeze_encoder(build_encoder("resnet18", 64, 0), "decoder", device=CPU, precision=params.precision)
    keys = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(size)]
    images = Images([f"{index:06d}" for index in range(size)], keys, [(SIDE, SIDE)] * size, [True] * size)

    def load(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            yield batch, torch.full((len(batch), 3, SIDE, SIDE), batch[0] % 256, dtype=torch.uint8)

    def run(folder: Path) -> None:
        out, store = folder / "out", FeatureStore(folder / "store")
        out.mkdir()
        settings: dict[str, Any] = {
            "dimension": 64,
            "params": params,
            "metadata": {},
            "check_stop": lambda: None,
            "log": LOG,
        }
        extract_features(images, load, encode, out=out, store=store, **settings)

    yield run


@contextlib.contextmanager
def _cluster(size: int) -> Iterator[Call]:
    """Fit on all cells, not on a sample of them, and label them."""
    params = load_params().pgg.model_copy(
        update={"k": K, "restarts": 1, "iterations": 4, "max_points_per_centroid": size}
    )
    images = [f"{index:06d}" for index in range(size // LEVEL**2)]
    with tempfile.TemporaryDirectory() as place:
        with create_artifact(Path(place) / "features") as writer:
            for part, first in enumerate(range(0, len(images), SHARD)):
                some = images[first : first + SHARD]
                vectors = draw_points(len(some) * LEVEL**2, D, first).astype(np.float16)
                boxes = np.stack([cell_boxes(LEVEL, SIDE, SIDE)] * len(some))
                name = shard_name(LEVEL, part)
                shaped = vectors.reshape(len(some), -1, D)
                writer.rows[name] = write_shard(writer.path / name, some, boxes, shaped, LEVEL, {})
        features = open_artifact(Path(place) / "features")

        def run(folder: Path) -> None:
            scratch = folder / "scratch"
            settings: dict[str, Any] = {"scratch": scratch, "check_stop": lambda: None}
            cluster_pyramid(features, set(images), [LEVEL], params, folder, {}, LOG, **settings)

        yield run


@contextlib.contextmanager
def _evaluate(size: int) -> Iterator[Call]:
    """All images are scored. The floors' k-means, which costs the same for any number, is fitted on few pixels."""
    defaults = load_params()
    params = defaults.evaluate.model_copy(
        update={"split": "train+val", "floor_restarts": 1, "floor_seeds": 1, "batch_size": BATCH}
    )
    encoder = {"backbone": "resnet18", "channels": 64}
    segmenter = build_segmenter(encoder, K, defaults.train.cae.model_dump())
    segmenter.prototypes.normal_(generator=torch.Generator().manual_seed(0))
    frame = draw_pixels(0, SIDE, SIDE).transpose(2, 0, 1).copy()
    classes = json.dumps({"classes": [{"id": index, "name": str(index)} for index in range(K)]})

    def load() -> Iterator[tuple[list[int], torch.Tensor]]:
        for first in range(0, size, BATCH):
            indices = list(range(first, min(first + BATCH, size)))
            yield indices, torch.from_numpy(frame).expand(len(indices), -1, -1, -1)

    with tempfile.TemporaryDirectory() as place, mock.patch.object(evaluate, "FLOOR_PIXELS", FLOOR_PIXELS):
        mask = Path(place) / "mask.png"
        Image.fromarray(np.random.default_rng(0).integers(0, K, (SIDE, SIDE), dtype=np.uint8)).save(mask)
        sha256 = hashlib.sha256(mask.read_bytes()).hexdigest()
        images, masks = [], []
        for index in range(size):
            path, split = Path(place) / f"{index:06d}.png", "train" if index % 2 else "val"
            path.hardlink_to(mask)
            images.append(ImageRow(path.name, split, path.name, SIDE, SIDE, "", "ok"))
            masks.append(TruthRow(path.name, split, str(path), sha256))
        table = ImageTable(images, Frame(SIDE, "center"), 10**6, 1)
        truth = open_truth(table, TruthTable(masks, classes), params.split, params.unknown_ids)

        def run(folder: Path) -> None:
            evaluate.evaluate_segmenter(
                segment_batches(segmenter, load(), device=CPU, precision=params.precision),
                table=table,
                truth=truth,
                k=K,
                params=params,
                out=folder,
                rows={},
                frame=lambda index: frame,
                log=LOG,
            )

        yield run


STAGES: dict[str, tuple[str, tuple[int, ...], Prepared]] = {
    "extract": ("images", IMAGES, _extract),
    "cluster": ("rows", ROWS, _cluster),
    "evaluate": ("images", IMAGES, _evaluate),
}

if __name__ == "__main__":
    _print_peak(*sys.argv[1:])
