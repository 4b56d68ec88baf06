"""The trainees of both trainings on noise, as the stages make them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.params import TrainParams, load_params
from pipeline.pretext.dense_clusters import DenseClusters
from pipeline.pretext.pretrain import PretextTrainee
from pipeline.pretext.quality import ViewQuality
from pipeline.segmentation.guidance import PyramidLevel
from pipeline.segmentation.model import build_segmenter
from pipeline.segmentation.trainee import SegmenterTrainee
from pipeline.training.loop import Loader

CPU = torch.device("cpu")
SIDE = 128


def pretext_trainee() -> PretextTrainee:
    """Pre-training by the default method."""
    params = load_params().pretrain
    encoder = build_encoder(params.backbone, params.channels, 0)
    sizes = [(SIDE, SIDE)] * params.batch_size

    def load(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            yield batch, torch.zeros(len(batch), 3, SIDE, SIDE, dtype=torch.uint8)

    return PretextTrainee(DenseClusters(encoder, params), params, sizes, CPU, ViewQuality(params, sizes, load))


def segmenter_trainee(
    params: TrainParams, images: int, side: int = SIDE, load: Loader | None = None
) -> SegmenterTrainee:
    """Training on random pyramid labels.

    Args:
        params: Group `train`.
        images: How many there are.
        side: Of their frames, in pixels.
        load: Loads them; None makes them up, as noise.
    """
    rng = torch.Generator().manual_seed(0)
    pyramid = [
        PyramidLevel(
            cells,
            min(8, images * cells**2 // 2),
            torch.randint(0, min(8, images * cells**2 // 2), (images, cells**2), generator=rng),
            torch.rand(images, cells**2, generator=rng),
            0.1,
        )
        for cells in load_params().extract.levels
    ]

    def load_noise(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            yield batch, torch.randint(0, 256, (len(batch), 3, side, side), dtype=torch.uint8, generator=rng)

    encoder = build_encoder("resnet18", 128, 0)
    segmenter = build_segmenter(encoder.architecture, params.k, params.cae.model_dump(), start=encoder, seed=0)
    return SegmenterTrainee(
        segmenter,
        params,
        pyramid=pyramid,
        grouping=load_params().pgg,
        sizes=[(side, side)] * images,
        load=load or load_noise,
        device=CPU,
    )
