"""Stage `train`: from a backbone and pyramid pseudo labels to a segmenter with its final prototypes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from pipeline.backbones.encoder import Encoder
from pipeline.clustering.gpu import use_device
from pipeline.clustering.pyramid import PseudoLabels
from pipeline.errors import InputError
from pipeline.params import PggParams, TrainParams
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.interrupts import StopSignal
from pipeline.segmentation.final_clustering import FinalClustering, cluster_finally
from pipeline.segmentation.guidance import PyramidLevel, min_margin
from pipeline.segmentation.model import Segmenter, build_segmenter
from pipeline.segmentation.trainee import SegmenterTrainee
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.dealing import Dealing
from pipeline.training.loop import Loader, run_epochs
from pipeline.training.sparing import heavy_modules, train_sparing


def train_segmenter(
    encoder: Encoder,
    params: TrainParams,
    *,
    pyramid: Sequence[PyramidLevel],
    grouping: PggParams,
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    device: torch.device,
    checkpoints: Checkpoints,
    curves: Curves,
    stop: StopSignal,
    log: logging.Logger,
    ranks: Ranks = ALONE,
) -> tuple[Segmenter, FinalClustering]:
    """Train, then cluster the train set once more for the final prototypes.

    Args:
        encoder: Self-supervised start.
        params: Group `train`.
        pyramid: Pseudo labels of the train images, level by level.
        grouping: Group `pgg`, for labels that are made anew.
        sizes: Frame height and width of every train image.
        load: Turns batches of indices into uint8 images (B, 3, h, w).
        device: Where to compute.
        checkpoints: Resume state.
        curves: Gets one row per epoch.
        stop: Asked after every step.
        log: Gets one line per epoch.
        ranks: The processes that share the work, all of which get the result.

    Returns:
        The segmenter on the CPU in evaluation mode, and the final clustering.

    Raises:
        TrainingError: The loss diverged or the clusters collapsed.
    """
    use_device(device)
    segmenter = build_segmenter(
        encoder.architecture,
        params.k,
        params.cae.model_dump(),
        fine_clusters=params.clustering.fine_clusters,
        start=encoder,
        seed=params.seed,
    )
    dealing = Dealing(ranks)
    trainee = SegmenterTrainee(
        segmenter, params, pyramid=pyramid, grouping=grouping, sizes=sizes, load=load, device=device, dealing=dealing
    )
    train = partial(
        run_epochs,
        trainee,
        epochs=params.rounds * params.epochs,
        load=load,
        checkpoints=checkpoints,
        curves=curves,
        stop=stop,
        log=log,
        dealing=dealing,
    )
    heavy = [*heavy_modules(segmenter.encoder), segmenter.embedding]
    spare = checkpoints.from_start and ranks.is_alone  # one of several cannot go back alone
    train_sparing(train, heavy, spare=spare, log=log)
    clustering = cluster_finally(
        trainee.result, params, guidance=trainee.guidance, sizes=sizes, load=load, device=device, ranks=ranks
    )
    return trainee.result.cpu().eval(), clustering


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
