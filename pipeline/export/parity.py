"""Whether exported models label as the trained one does, and how fast and large they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.data.loading import FrameDataset, ordered_batches
from pipeline.export.onnx_files import INPUT, open_session
from pipeline.segmentation.inference import segment_images
from pipeline.segmentation.model import Segmenter

THREADS = (1, 2)
REPEATS = 11
WARM_UP = 3
BATCH = 4
CPU = torch.device("cpu")
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """How many pixels of some images two models label alike."""

    images: int
    pixels: int
    alike: int

    @property
    def share(self) -> float:
        """In percent."""
        return 100 * self.alike / self.pixels


def run_torch(segmenter: Segmenter) -> Run:
    """Labels of uint8 images (B, C, h, w) by the trained network in float32 on the CPU."""
    return lambda images: segment_images(segmenter, torch.from_numpy(images), device=CPU, precision="fp32")


def run_onnx(path: Path, threads: int) -> Run:
    """Labels by an exported file; logits are compared here."""
    session = open_session(path, threads)

    def run(images: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {INPUT: images})
        return np.asarray(found.argmax(1) if found.ndim == 4 else found)

    return run


def measure_agreement(reference: Run, other: Run, dataset: FrameDataset, chosen: Sequence[int]) -> Agreement:
    """Compare the labels of two models.

    Args:
        reference: The first model.
        other: The second.
        dataset: The images.
        chosen: Indices of those that are compared.
    """
    pixels = alike = 0
    for images in _batches(dataset, chosen):
        expected, found = reference(images), other(images)
        pixels += expected.size
        alike += int((expected == found).sum())
    return Agreement(len(chosen), pixels, alike)


def measure_latency(run: Run, image: np.ndarray) -> float:
    """Milliseconds for one image uint8 (C, h, w): the median of some runs, after some to warm up."""
    seconds = []
    for repeat in range(WARM_UP + REPEATS):
        started = time.perf_counter()
        run(image[None])
        if repeat >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def measure_latencies(segmenter: Segmenter, files: Sequence[Path], image: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds for one image by the trained network ("torch") and by each file, for each number in `THREADS`."""
    found: dict[str, list[float]] = {"torch": []}
    before = torch.get_num_threads()
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            found["torch"].append(measure_latency(run_torch(segmenter), image))
    finally:
        torch.set_num_threads(before)
    for file in files:
        found[file.name] = [measure_latency(run_onnx(file, threads), image) for threads in THREADS]
    return found


def _batches(dataset: FrameDataset, chosen: Sequence[int]) -> Iterator[np.ndarray]:
    for batch in ordered_batches([dataset.sizes[index] for index in chosen], BATCH):
        yield torch.stack([dataset[chosen[place]] for place in batch]).numpy()
