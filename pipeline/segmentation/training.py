"""Stage `train`: from a backbone and pyramid pseudo labels to a segmenter with its final prototypes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.backbones.encoder import Encoder
from pipeline.clustering.pyramid import PseudoLabels
from pipeline.data.loading import shape_batches
from pipeline.data.views import normalise
from pipeline.errors import InputError
from pipeline.params import TrainParams
from pipeline.runtime.device import autocast
from pipeline.runtime.interrupts import StopSignal
from pipeline.runtime.randomness import generator
from pipeline.segmentation.guidance import PyramidLevel, min_margin
from pipeline.segmentation.model import Segmenter, build_segmenter
from pipeline.segmentation.pixel_clustering import PixelSample, fit_prototypes
from pipeline.segmentation.trainee import SegmenterTrainee
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.loop import Loader, run_epochs


def train_segmenter(
    encoder: Encoder,
    params: TrainParams,
    *,
    pyramid: Sequence[PyramidLevel],
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    device: torch.device,
    checkpoints: Checkpoints,
    curves: Curves,
    stop: StopSignal,
    log: logging.Logger,
) -> tuple[Segmenter, dict[str, Any]]:
    """Train, then cluster the train set once more for the final prototypes.

    Args:
        encoder: Self-supervised start.
        params: Group `train`.
        pyramid: Pseudo labels of the train images, level by level.
        sizes: Frame height and width of every train image.
        load: Turns batches of indices into uint8 images (B, 3, h, w).
        device: Where to compute.
        checkpoints: Resume state.
        curves: Gets one row per epoch.
        stop: Asked after every step.
        log: Gets one line per epoch.

    Returns:
        The segmenter on the CPU in evaluation mode, and statistics of the final clustering.

    Raises:
        TrainingError: The loss diverged or the clusters collapsed.
    """
    segmenter = build_segmenter(
        encoder.architecture, params.k, params.cae.model_dump(), start=encoder, seed=params.seed
    )
    trainee = SegmenterTrainee(segmenter, params, pyramid=pyramid, sizes=sizes, load=load, device=device)
    run_epochs(trainee, epochs=params.epochs, load=load, checkpoints=checkpoints, curves=curves, stop=stop, log=log)
    statistics = fit_final_prototypes(segmenter, params, sizes=sizes, load=load, device=device)
    return segmenter.cpu().eval(), statistics


def fit_final_prototypes(
    segmenter: Segmenter, params: TrainParams, *, sizes: Sequence[tuple[int, int]], load: Loader, device: torch.device
) -> dict[str, Any]:
    """Cluster the train frames as they are, in evaluation mode, and keep the best of several restarts.

    Returns:
        Pixels fitted, inertia of the kept run and of every restart, sizes of the clusters.
    """
    segmenter.to(device).to(memory_format=torch.channels_last).eval()
    sample = PixelSample(len(sizes), params.k, params.clustering, params.seed, "final pixels", params.epochs)
    with torch.no_grad():
        for indices, images in load(shape_batches(sizes, params.batch_size, None)):
            with autocast(device, params.precision):
                embedding = segmenter.embed(normalise(images.to(device, non_blocking=True)))
            sample.add(indices, embedding)
    points = sample.points()
    fit = fit_prototypes(
        points,
        params.k,
        iterations=params.clustering.iterations,
        restarts=params.clustering.final_restarts,
        seed=int(generator(params.seed, "final prototypes").integers(2**31)),
    )
    segmenter.prototypes.copy_(torch.from_numpy(fit.centroids))
    return {
        "pixels_fitted": len(points),
        "inertia": fit.inertia,
        "restart_inertia": list(fit.restart_inertia),
        "sizes": fit.sizes.tolist(),
        "reseeded": fit.reseeded,
    }


def gather_pyramid(
    levels: Mapping[int, PseudoLabels], image_ids: Sequence[str], drop_fraction: float
) -> list[PyramidLevel]:
    """Line the pseudo labels up with the train images.

    Args:
        levels: The labels of each level, by cells a side.
        image_ids: The train images, in the order of their indices.
        drop_fraction: Share of the least certain cells to leave out.

    Raises:
        InputError: An image has no pseudo labels.
    """
    gathered = []
    for cells, pseudo in levels.items():
        missing = [image_id for image_id in image_ids if image_id not in pseudo.labels]
        if missing:
            raise InputError(
                f"{missing[0]}: no pseudo labels at level {cells} ({len(missing)} images); run `dvc repro cluster`"
            )
        labels = np.stack([pseudo.labels[image_id].reshape(-1) for image_id in image_ids]).astype(np.int64)
        margins = np.stack([pseudo.margins[image_id].reshape(-1) for image_id in image_ids])
        threshold = min_margin(margins[labels >= 0], drop_fraction)
        gathered.append(PyramidLevel(cells, pseudo.k, torch.from_numpy(labels), torch.from_numpy(margins), threshold))
    return gathered
