"""Floors: what is reached without learning anything. A figure means something only above all of them.

All floors have k = C clusters and are scored by the same matrix, matching and metrics as a model. They are not
to be weakened: the colour and position floor is the best of several weights, chosen on the scored labels in its
favour. Its score varies by points with the draw of its sample and starts, so it is given as a mean over seeds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.appearance import appearance_features
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import hungarian
from pipeline.evaluation.metrics import score
from pipeline.runtime.randomness import generator

POSITION_WEIGHTS = (0.0, 0.5, 1.0, 2.0)
_POSITION_COLUMNS = slice(-2, None)
_ITERATIONS = 50

Frame = tuple[NDArray[np.uint8], NDArray[np.integer]]
Figures = dict[str, float]


@dataclass(frozen=True)
class Floors:
    """The floors of one split, and how the colour and position floor came about."""

    figures: dict[str, Figures]
    """`majority_class`, `random`, `colour_position_kmeans`, each `miou` and `pixel_accuracy` in percent; the last has
    their standard deviations too, `miou_sd` and `pixel_accuracy_sd`, where there are several seeds."""
    by_seed: tuple[tuple[Figures, ...], ...]
    """Per seed `position_weight`, `miou` and `pixel_accuracy` of each k-means, in the order of `POSITION_WEIGHTS`."""
    pixels_fitted: int
    """Number of pixels that each k-means was fitted on."""

    def describe(self) -> str:
        """The mIoU of every k-means, in one line."""
        weights = ", ".join(f"{weight:g}" for weight in POSITION_WEIGHTS)
        rows = [", ".join(f"{floor['miou']:.2f}" for floor in by_weight) for by_weight in self.by_seed]
        return f"mIoU at position weights {weights}: " + "; ".join(rows)


@dataclass(frozen=True)
class _Quantiser:
    """Standardisation, position weight and centroids of one k-means."""

    mean: NDArray[np.float32]  # (F,), 6 features for RGB
    scale: NDArray[np.float32]  # (F,)
    centroids: NDArray[np.float32]  # (k, F)

    def assign(self, features: NDArray[np.float32]) -> NDArray[np.intp]:
        scaled = (features - self.mean) * self.scale
        # |x - c|^2 without |x|^2, which is the same for every centroid.
        distances = np.square(self.centroids).sum(axis=1) - 2 * (scaled @ self.centroids.T)  # (H * W, k)
        nearest: NDArray[np.intp] = distances.argmin(axis=1)
        return nearest


def floor_metrics(
    frames: Callable[[], Iterable[Frame]],
    *,
    fitting: Callable[[], Iterable[NDArray[np.uint8]]],
    classes: int,
    ignore_index: int,
    seed: int,
    restarts: int,
    seeds: int,
    sample_pixels: int,
) -> Floors:
    """Score the floors over a whole split.

    `majority_class` predicts the most frequent class everywhere. `random` draws each pixel's cluster
    uniformly. `colour_position_kmeans` is the best in mIoU of four k-means on blurred L*a*b* and gradient
    magnitude, with x and y appended at weight 0, 0.5, 1 and 2, every feature standardised over what it
    is fitted on: the images that a model learns from, with the same share of each. It sees no label, and
    assigns every pixel of the scored split. The figures are means over several seeds of the best of each.

    Args:
        frames: called twice; each time yields the same images, (channels, H, W) uint8, with their ground
            truth, (H, W) integers, in the same order. One frame at a time is held in memory.
        fitting: called twice; each time yields the train images, (channels, H, W) uint8, in the same order.
        classes: number of classes C, which is also the number of clusters.
        ignore_index: ground truth value of the pixels that are not counted.
        seed: seed of the random clusters, the sample and k-means.
        restarts: k-means runs of which the one with the least inertia is kept.
        seeds: how many seeds, from `seed` upwards, the colour and position floor is the mean of.
        sample_pixels: about how many pixels k-means is fitted on.

    Returns:
        The figures; the same for the same frames, seed and machine.

    Raises:
        InputError: when every pixel is ignored, or there is no frame.
        ValueError: when the ground truth holds other ids, or an image and its ground truth differ in size.
    """

    def count(truth: NDArray[np.integer], clusters: NDArray[np.integer]) -> NDArray[np.int64]:
        return confusion_matrix(
            truth, clusters.reshape(truth.shape), classes=classes, k=classes, ignore_index=ignore_index
        )

    by_chance = np.zeros((classes, classes), dtype=np.int64)
    for index, (image, truth) in enumerate(frames()):
        if image.shape[1:] != truth.shape:
            raise ValueError(f"frame {index}: image {image.shape} does not fit ground truth {truth.shape}")
        drawn = generator(seed, "random floor", index).integers(classes, size=truth.shape, dtype=np.int32)
        by_chance += count(truth, drawn)
    single_cluster = by_chance.sum(axis=1, keepdims=True)
    figures = {"majority_class": _figures(single_cluster), "random": _figures(by_chance)}

    seeds_used = range(seed, seed + seeds)
    samples = _sample(fitting, seeds=seeds_used, sample_pixels=sample_pixels)
    quantisers = [
        _fit(sample, weight, k=classes, seed=drawn, restarts=restarts)
        for drawn, sample in zip(seeds_used, samples, strict=True)
        for weight in POSITION_WEIGHTS
    ]
    by_colour = [np.zeros((classes, classes), dtype=np.int64) for _ in quantisers]
    for image, truth in frames():
        features = appearance_features(image)
        for matrix, quantiser in zip(by_colour, quantisers, strict=True):
            matrix += count(truth, quantiser.assign(features))
    scored = iter([_figures(matrix) for matrix in by_colour])
    by_seed = tuple(
        tuple({"position_weight": weight, **next(scored)} for weight in POSITION_WEIGHTS) for _ in seeds_used
    )
    figures["colour_position_kmeans"] = _average_best(by_seed)
    return Floors(figures=figures, by_seed=by_seed, pixels_fitted=len(samples[0]))


def _average_best(by_seed: tuple[tuple[Figures, ...], ...]) -> Figures:
    best = [max(by_weight, key=lambda floor: (floor["miou"], floor["pixel_accuracy"])) for by_weight in by_seed]
    figures = {name: float(np.mean([floor[name] for floor in best])) for name in ("miou", "pixel_accuracy")}
    if len(best) > 1:
        figures |= {f"{name}_sd": float(np.std([floor[name] for floor in best], ddof=1)) for name in tuple(figures)}
    return figures


def _figures(matrix: NDArray[np.int64]) -> Figures:
    section = score(hungarian(matrix).apply(matrix), None)["all"]
    return {"miou": section["miou"], "pixel_accuracy": section["pixel_accuracy"]}


def _sample(
    images: Callable[[], Iterable[NDArray[np.uint8]]], *, seeds: Sequence[int], sample_pixels: int
) -> list[NDArray[np.float32]]:
    sizes = [image[0].size for image in images()]
    share = min(1.0, sample_pixels / sum(sizes))
    counts = [max(1, round(share * size)) for size in sizes]
    samples: dict[int, NDArray[np.float32]] = {}  # whole from the start: an array an image would take more than a row
    first = 0
    for index, (image, size, count) in enumerate(zip(images(), sizes, counts, strict=True)):
        features = appearance_features(image)
        for seed in seeds:
            if not index:
                samples[seed] = np.empty((sum(counts), features.shape[1]), np.float32)
            chosen = generator(seed, "floor sample", index).choice(size, size=count, replace=False, shuffle=False)
            samples[seed][first : first + count] = features[np.sort(chosen)]
        first += count
    return list(samples.values())


def _fit(sample: NDArray[np.float32], weight: float, *, k: int, seed: int, restarts: int) -> _Quantiser:
    import faiss

    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = sample.std(axis=0, dtype=np.float64)
    # A constant feature, such as the colour difference of grey images, tells nothing and stays at zero.
    scale = np.divide(1.0, deviation, out=np.zeros(len(deviation)), where=deviation > 1e-6)
    scale[_POSITION_COLUMNS] *= weight
    points = (sample - mean) * scale.astype(np.float32)
    kmeans = faiss.Kmeans(
        points.shape[1],
        min(k, len(points)),
        niter=_ITERATIONS,
        nredo=restarts,
        seed=int(generator(seed, "floor k-means").integers(2**31 - 1)),
        # Without these two, faiss draws its own sample of 256 points per centroid, and warns on small ones.
        max_points_per_centroid=len(points),
        min_points_per_centroid=1,
    )
    kmeans.train(points)
    centroids: NDArray[np.float32] | None = kmeans.centroids
    assert centroids is not None
    return _Quantiser(mean, scale.astype(np.float32), centroids)
