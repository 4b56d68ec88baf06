"""The last clustering: the prototypes that a trained segmenter keeps, and how much they are a matter of chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.clustering.kmeans import KMeans, assign
from pipeline.data.loading import shape_batches
from pipeline.data.views import normalise
from pipeline.params import TrainParams
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.randomness import generator
from pipeline.segmentation.guidance import PyramidGuidance
from pipeline.segmentation.labelled_sample import LabelledSample
from pipeline.segmentation.merging import confusion_groups, count_confusion, ward_groups
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.pixel_clustering import PixelSample, check_finite, fit_prototypes
from pipeline.segmentation.two_views import embed_views, make_views
from pipeline.segmentation.view_cells import whole_frames
from pipeline.training.loop import Loader

CONFUSION_PASSES = 2  # times that the train frames are seen in two views to count what is confused


@dataclass(frozen=True)
class FinalClustering:
    """Independent clusterings of the trained embeddings.

    Attributes:
        prototypes: float32 (R, K', D), of each draw; K' is K unless fine clusters were merged.
        groups: int64 (R, K'), the cluster in 0..K-1 of each prototype.
        statistics: Of the draw whose prototypes the segmenter took, and the inertia of all on held pixels.
    """

    prototypes: np.ndarray
    groups: np.ndarray
    statistics: dict[str, Any]


def cluster_finally(
    segmenter: Segmenter,
    params: TrainParams,
    *,
    guidance: PyramidGuidance,
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> FinalClustering:
    """Cluster the train frames as they are, in evaluation mode, and give the segmenter the best prototypes.

    Several processes share the passes over the frames, batch by batch; the first one clusters.

    Each draw takes pixels of its own and the best of several restarts. The best draw has the lowest inertia on held
    pixels that are the same for all draws.

    Raises:
        TrainingError: Some embeddings are not finite.
    """
    segmenter.to(device).to(memory_format=torch.channels_last).eval()
    clustering = params.clustering
    purposes = [f"final pixels {draw}" for draw in range(clustering.final_draws)]
    collected = _sample_frames(segmenter, params, guidance, [*purposes, "held pixels"], sizes, load, device, ranks)
    compared = clustering.fine_clusters and clustering.merge == "view_confusion"
    spots = _sample_spots(segmenter, params, sizes, load, device, ranks) if compared else None
    found = ranks.broadcast(_cluster_samples(params, collected, spots) if ranks.is_first else None)
    assert found is not None
    best = found.statistics["draw"]
    segmenter.prototypes.copy_(torch.from_numpy(found.prototypes[best]))
    segmenter.groups.copy_(torch.from_numpy(found.groups[best]))
    return found


def _cluster_samples(
    params: TrainParams, collected: Sequence[LabelledSample], spots: tuple[np.ndarray, np.ndarray] | None
) -> FinalClustering:
    clustering, seed = params.clustering, params.seed
    *samples, held = (sample.points() for sample in collected)
    check_finite(held, "final clustering")
    fits = [
        fit_prototypes(
            points,
            clustering.fine_clusters or params.k,
            iterations=clustering.iterations,
            restarts=clustering.final_restarts,
            seed=int(generator(seed, "final prototypes", draw).integers(2**31)),
        )
        for draw, points in enumerate(samples)
    ]
    held_inertia = [float(assign(held, fit.centroids, spherical=False).distance.sum(dtype=np.float64)) for fit in fits]
    best = int(np.argmin(held_inertia))
    groups = _group_draws(params, fits, spots)
    statistics = {
        "pixels_fitted": len(samples[best]),
        "inertia": fits[best].inertia,
        "restart_inertia": list(fits[best].restart_inertia),
        "sizes": np.bincount(groups[best], weights=fits[best].sizes, minlength=params.k).astype(int).tolist(),
        "reseeded": fits[best].reseeded,
        "draw": best,
        "held_inertia": held_inertia,
    }
    return FinalClustering(np.stack([fit.centroids for fit in fits]), groups, statistics)


def save_draws(clustering: FinalClustering, folder: Path) -> None:
    """Write the prototypes of all draws to `final_draws.safetensors`, so that each of them can be scored."""
    from safetensors.numpy import save

    tensors = {"prototypes": np.ascontiguousarray(clustering.prototypes), "groups": clustering.groups}
    (folder / "final_draws.safetensors").write_bytes(save(tensors))


def _sample_frames(
    segmenter: Segmenter,
    params: TrainParams,
    guidance: PyramidGuidance,
    purposes: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    device: torch.device,
    ranks: Ranks,
) -> list[LabelledSample]:
    """One pass over the train frames; for each purpose the pixels that were drawn for it."""
    samples = [
        LabelledSample(params, len(sizes), guidance.pixel_label_counts, purpose, params.epochs) for purpose in purposes
    ]
    with torch.no_grad():
        for indices, images in load(ranks.own(shape_batches(sizes, params.batch_size, None))):
            with autocast(device, params.precision):
                embedding = segmenter.embed(normalise(copy_to(device, images)))
            size = (embedding.shape[2], embedding.shape[3])
            of_cells = guidance.pixel_labels(indices, whole_frames(len(indices)), size)
            for sample in samples:
                sample.add(indices, embedding, of_cells)
    for sample in samples:
        sample.merge(ranks)
    return samples


def _group_draws(
    params: TrainParams, fits: Sequence[KMeans], spots: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """Which cluster each prototype belongs to, int64 (R, K')."""
    if not params.clustering.fine_clusters:
        return np.tile(np.arange(params.k, dtype=np.int64), (len(fits), 1))
    if spots is None:
        return np.stack([ward_groups(fit.centroids, fit.sizes, params.k) for fit in fits])
    return np.stack(
        [
            confusion_groups(
                count_confusion(fit.centroids, *spots),
                params.k,
                int(generator(params.seed, "final merging", draw).integers(2**31)),
            )
            for draw, fit in enumerate(fits)
        ]
    )


def _sample_spots(
    segmenter: Segmenter,
    params: TrainParams,
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    device: torch.device,
    ranks: Ranks,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Embeddings of the same spots in two random views, float32 (N, D) each; None in processes that only help."""
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for epoch in range(params.epochs, params.epochs + CONFUSION_PASSES):
        samples = [
            PixelSample(len(sizes), params.k, params.clustering, params.seed, "final spots", epoch) for _ in rows
        ]
        with torch.no_grad():
            for indices, images in load(ranks.own(shape_batches(sizes, params.batch_size, None))):
                views = make_views(images, indices, epoch, params, device)
                embedded = embed_views(segmenter, views, params.precision)
                for sample, embedding in zip(samples, embedded.pixels(), strict=True):
                    sample.add(indices, embedding)
        for collected, sample in zip(rows, samples, strict=True):
            sample.merge(ranks)
            if ranks.is_first:
                collected.append(sample.points())
    if not ranks.is_first:
        return None
    return np.concatenate(rows[0]), np.concatenate(rows[1])
