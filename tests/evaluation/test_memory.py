"""What an evaluation keeps of every image is bounded, whatever their number."""

import hashlib
import json
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.evaluation import bootstrap, evaluate, label_maps
from pipeline.evaluation.bootstrap import ImageCounts, bootstrap_intervals
from pipeline.evaluation.evaluate import evaluate_segmenter
from pipeline.evaluation.floors import floor_metrics
from pipeline.evaluation.matching import hungarian
from pipeline.evaluation.truth import open_truth
from pipeline.params import load_params

SIDE, C, K = 32, 9, 20
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").evaluate.model_copy(
    update={"floor_restarts": 1, "floor_seeds": 3, "gallery": 3}
)
CLASSES = json.dumps({"classes": [{"id": i, "name": str(i)} for i in range(C)]})
SUMS = 3 * 8 * C  # bytes that the bootstrap needs of an image


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    """What is held whatever the number of images is full with few of them."""
    for module, name, value in (
        (bootstrap, "RESAMPLES", 2),
        (bootstrap, "_NUMBERS", 2**10),
        (bootstrap, "_IN_MEMORY", 2**12),
        (bootstrap, "_READ", 2**9),
        (label_maps, "PER_SHARD", 8),
        (evaluate, "FLOOR_PIXELS", 2000),
    ):
        monkeypatch.setattr(module, name, value)


def peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_image_takes_its_sums_and_its_name():
    rng = np.random.default_rng(0)
    matrices = rng.integers(1, 50, (64, C, K))  # of every pair there is a pixel
    assignment = hungarian(matrices.sum(axis=0))

    def count(images: int) -> None:
        counts = ImageCounts(C)
        for index in range(images):
            counts.add(matrices[index % 64], image=str(index))
        assert bootstrap_intervals(counts.reduce(assignment, range(K)), 0)["images"] == images

    few, many = 1000, 5000  # of which each has more entries than are held in memory
    assert (peak(lambda: count(many)) - peak(lambda: count(few))) / (many - few) < SUMS + 200


def test_the_sample_of_the_floors_takes_no_array_an_image():
    rng = np.random.default_rng(0)
    image, truth = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8), rng.integers(0, 2, (8, 8))

    def measure(images: int) -> None:
        floor_metrics(
            lambda: ((image, truth) for _ in range(images)),
            fitting=lambda: (image for _ in range(images)),
            classes=2,
            ignore_index=255,
            seed=0,
            restarts=1,
            seeds=3,
            sample_pixels=1000,
        )

    measure(20)  # imports
    few, many = 100, 500
    assert (peak(lambda: measure(many)) - peak(lambda: measure(few))) / (many - few) < 150


def test_an_evaluation_keeps_little_of_an_image(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    labels = rng.integers(0, K, (SIDE, SIDE))
    original = tmp_path / "mask.png"
    Image.fromarray(rng.integers(0, C, (SIDE, SIDE), dtype=np.uint8)).save(original)
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()

    def run(images: int) -> int:
        folder = tmp_path / str(images)
        folder.mkdir()
        rows, masks = [], []
        for index in range(images):
            split = "train" if index % 2 else "val"
            path = folder / f"{index:06d}.png"
            path.hardlink_to(original)
            rows.append(ImageRow(path.name, split, path.name, SIDE, SIDE, str(index), "ok"))
            masks.append(TruthRow(path.name, split, str(path), sha256))
        table = ImageTable(rows, Frame(SIDE, "center"), 10**6, 1)
        out = folder / "out"
        out.mkdir()
        truth = open_truth(table, TruthTable(masks, CLASSES), "train+val", "error")
        found = {}

        def score() -> None:
            found.update(
                evaluate_segmenter(
                    ((index, image, labels, [], {}) for index in range(images)),
                    table=table,
                    truth=truth,
                    k=K,
                    params=PARAMS,
                    out=out,
                    rows={},
                    frame=lambda index: image,
                    log=logging.getLogger("fs4.test"),
                )
            )

        taken = peak(score)
        assert found["bootstrap"]["images"] == images
        assert {path.name for path in out.iterdir()} == {
            "label_maps", "gallery", "clusters.json", "confusion.json", "metrics.json", "protocol.json"
        }  # fmt: skip
        return taken

    run(10)  # imports
    few, many = 50, 250
    assert (run(many) - run(few)) / (many - few) < SUMS + 200
