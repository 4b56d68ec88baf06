"""Times the confusion matrix against torchmetrics and scikit-learn: `python -m benchmarks.evaluation`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measuring import Row
from pipeline.evaluation.confusion import confusion_matrix

CLASSES = CLUSTERS = 27
IGNORE_INDEX = 255
SHAPE = (8, 512, 512)  # images, height and width
IGNORED = 0.1  # share of the pixels
REPEATS = 5
# Dtype of masks and of clusters: PNG files, stage evaluate, and what most loaders give
DTYPES = ((np.uint8, np.uint8), (np.int32, np.int64), (np.int64, np.int64))


def draw_labels(truth: type, clusters: type) -> tuple[np.ndarray, np.ndarray]:
    """Random masks and label maps.

    Args:
        truth: Dtype of the masks.
        clusters: Dtype of the label maps.

    Returns:
        Class ids with ignored pixels and cluster ids, both of shape `SHAPE`.
    """
    rng = np.random.default_rng(0)
    masks = rng.integers(CLASSES, size=SHAPE)
    masks[rng.random(SHAPE) < IGNORED] = IGNORE_INDEX
    return masks.astype(truth), rng.integers(CLUSTERS, size=SHAPE).astype(clusters)


def count_here(truth: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Our matrix, image by image as the stage does."""
    sizes = {"classes": CLASSES, "k": CLUSTERS, "ignore_index": IGNORE_INDEX}
    return sum(confusion_matrix(mask, labels, **sizes) for mask, labels in zip(truth, clusters, strict=True))


def count_with_torchmetrics() -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """The same by torchmetrics; None if it is not installed."""
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError:
        return None

    def count(truth: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        metric = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE_INDEX, validate_args=False)
        for mask, labels in zip(truth, clusters, strict=True):
            metric.update(torch.from_numpy(labels).long(), torch.from_numpy(mask).long())
        return metric.compute().numpy()

    return count


def count_with_scikit_learn() -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """The same by scikit-learn; None if it is not installed."""
    try:
        from sklearn.metrics import confusion_matrix as count_pairs
    except ImportError:
        return None

    def count(truth: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        total = np.zeros((CLASSES, CLUSTERS), np.int64)
        for mask, labels in zip(truth, clusters, strict=True):
            valid = mask != IGNORE_INDEX
            total += count_pairs(mask[valid], labels[valid], labels=range(CLASSES))
        return total

    return count


def measure(count: Callable[[np.ndarray, np.ndarray], np.ndarray], truth: np.ndarray, clusters: np.ndarray) -> float:
    """Megapixels per processor second of the fastest of some calls, after one to warm up.

    Processor time is that of an idle core even where other programs share it.
    """
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.process_time()
        count(truth, clusters)
        seconds.append(time.process_time() - begin)
    return truth.size / min(seconds[1:]) / 1e6


def measure_rows() -> list[Row]:
    """Ids as PNG files have them, and as stage evaluate has them."""
    rows = []
    others = {"torchmetrics": count_with_torchmetrics(), "scikit-learn": count_with_scikit_learn()}
    for what, dtypes in zip(("of bytes", "of integers"), DTYPES[:2], strict=True):
        truth, clusters = draw_labels(*dtypes)
        ours = measure(count_here, truth, clusters)
        rows.append(Row(f"confusion matrix {what}", "–", ours, 0.0, "Mpixel/s", ours, ">= 100"))
        for name, count in others.items():
            if count is not None:
                np.testing.assert_array_equal(count_here(truth, clusters), count(truth, clusters))
                theirs = measure(count, truth, clusters)
                rows.append(Row(f"confusion matrix {what}", name, ours, theirs, "Mpixel/s", ours / theirs, ">= 5"))
    return rows


def main() -> None:
    """Check that all agree, then print a table."""
    torch.set_num_threads(1)
    others = {"torchmetrics": count_with_torchmetrics(), "scikit-learn": count_with_scikit_learn()}
    shape = " x ".join(map(str, SHAPE))
    print(f"one thread, processor time, C = K = {CLASSES}, {shape} pixels, best of {REPEATS}, Mpixel/s")
    print(f"{'truth':>7}{'clusters':>10}{'fs4':>9}" + "".join(f"{name:>14}{'ratio':>8}" for name in others))
    for dtypes in DTYPES:
        truth, clusters = draw_labels(*dtypes)
        ours = measure(count_here, truth, clusters)
        line = f"{truth.dtype!s:>7}{clusters.dtype!s:>10}{ours:>9.1f}"
        for count in others.values():
            if count is None:
                line += f"{'not installed':>14}{'':>8}"
                continue
            np.testing.assert_array_equal(count_here(truth, clusters), count(truth, clusters))
            theirs = measure(count, truth, clusters)
            line += f"{theirs:>14.2f}{ours / theirs:>8.0f}"
        print(line)


if __name__ == "__main__":
    main()
