"""Disk, memory and time of the graph, estimated from steps of the network that are timed on this machine."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.clustering.fitting import IN_MEMORY
from pipeline.params import Params
from pipeline.runtime.device import autocast, resolve_device
from pipeline.runtime.randomness import generator
from pipeline.training.checkpoints import KEEP

if TYPE_CHECKING:
    from pipeline.backbones.encoder import Encoder
    from pipeline.segmentation.model import Segmenter

TIMED = 8  # images of a timed batch at most
LABEL = 16.0  # bytes of a cell's pseudo label, beside the image's name
POINTS = 512  # of a timed k-means for each of its clusters
STEPS = 3  # the fastest counts: the first also pays for what is set up once


@dataclass(frozen=True)
class Rates:
    """Seconds per image.

    Attributes:
        device: Where they were measured.
        decode: To read, decode and frame an image.
        pretext: One view of pre-training, forwards and backwards.
        train: One view of the training, forwards and backwards.
        forward: The segmenter without gradients.
        distance: k-means, from one point to one centroid in one iteration.
        weights: Bytes of the segmenter's weights.
        dimension: Channels of the map that stage `extract` pools.
    """

    device: str
    decode: float
    pretext: float
    train: float
    forward: float
    distance: float
    weights: int
    dimension: int


@dataclass(frozen=True)
class Costs:
    """Estimates for the whole graph.

    Attributes:
        bytes: On disk, by stage and by what takes them.
        cache: Bytes of decoded frames in memory.
        seconds: By stage.
    """

    bytes: dict[str, dict[str, float]]
    cache: float
    seconds: dict[str, float]


def measure_rates(params: Params, size: tuple[int, int], decode: float) -> Rates:
    """Time steps of every network on noise, without what other programs take of the processor.

    Args:
        params: All parameters.
        size: (h, w) of a typical frame, in pixels.
        decode: Seconds to read, decode and frame an image.
    """
    import torch

    device = resolve_device(params.run)
    channels, train = params.data.channels, params.train
    encoder, segmenter = build_networks(params)
    segmenter.to(device).to(memory_format=torch.channels_last)

    threads = torch.get_num_threads()

    def timed(network: Callable[[torch.Tensor], torch.Tensor], side: tuple[int, int], batch: int, grad: bool) -> float:
        images = torch.rand(min(batch, TIMED), channels, *side, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        taken = []
        for _ in range(STEPS):
            wall, processor = time.perf_counter(), time.process_time()
            with torch.set_grad_enabled(grad), autocast(device, train.precision):
                total = network(images).float().square().mean()
            if grad:
                total.backward()
            total.item()  # waits for the device
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            # what other programs take of the processor is not the graph's
            taken.append(min(wall, processor / threads) if device.type == "cpu" else wall)
        return min(taken) / len(images)

    view = (params.pretrain.view_size,) * 2
    return Rates(
        device=str(device),
        decode=decode,
        pretext=timed(encoder, view, params.pretrain.batch_size, True),
        train=timed(segmenter.embed, size, train.batch_size, True),
        forward=timed(segmenter.embed, size, params.evaluate.batch_size, False),
        distance=_time_kmeans(encoder.map_width(params.extract.source), params) / threads,
        weights=sum(weight.numel() * 4 for weight in segmenter.parameters()),
        dimension=encoder.map_width(params.extract.source),
    )


def build_networks(params: Params) -> tuple[Encoder, Segmenter]:
    """The encoder of the pre-training, and the segmenter that it is part of, with random weights on the CPU."""
    from pipeline.backbones.encoder import build_encoder
    from pipeline.segmentation.model import build_segmenter

    channels, pretrain, train = params.data.channels, params.pretrain, params.train
    inputs = None if channels == 3 else {"mean": [0.5] * channels, "std": [0.25] * channels}
    encoder = build_encoder(pretrain.backbone, pretrain.channels, 0, pretrain.vit_features, inputs=inputs)
    fine = train.clustering.fine_clusters
    return encoder, build_segmenter(
        encoder.architecture, train.k, train.cae.model_dump(), fine_clusters=fine, start=encoder
    )


def _time_kmeans(dimension: int, params: Params) -> float:
    """Processor seconds from one point to one centroid in one iteration; threads take a restart each."""
    from pipeline.clustering.kmeans import fit_kmeans

    k = max(params.pgg.k) if isinstance(params.pgg.k, list) else params.pgg.k
    points = generator(0, "doctor k-means").standard_normal((POINTS * k, dimension), np.float32)
    begin = time.process_time()
    fit_kmeans(points, k, spherical=True, iterations=params.pgg.iterations, restarts=1, seed=0)
    return (time.process_time() - begin) / (POINTS * k * k * params.pgg.iterations)


def peak_memory() -> float:
    """Most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def estimate_costs(
    params: Params, images: int, train_images: int, size: tuple[int, int], rates: Rates, tile: float = 0.0
) -> Costs:
    """Add up what the stages do.

    Args:
        params: All parameters.
        images: Usable images or tiles, after `data.limit`.
        train_images: Those of split train.
        size: (h, w) of a typical frame, in pixels.
        rates: Seconds per image.
        tile: Bytes of the pixels of a tile, which `prepare` writes as a file; 0: images are read where they lie.

    Returns:
        Disk from above, before compression; seconds of decoding, of the networks and of k-means alone.
    """
    pixels = size[0] * size[1]
    dimension = min(params.extract.pca or rates.dimension, rates.dimension)
    levels, pgg = params.extract.levels, params.pgg
    cells = sum(level**2 for level in levels)
    counts = pgg.k if isinstance(pgg.k, list) else [pgg.k] * len(levels)
    fitted = [
        min(train_images * level**2, k * pgg.max_points_per_centroid) for level, k in zip(levels, counts, strict=True)
    ]
    distances = sum(
        float(points * pgg.restarts * pgg.iterations + images * level**2) * k
        for points, level, k in zip(fitted, levels, counts, strict=True)
    )
    features = images * cells * (2.0 * dimension + 24)  # 16-bit vectors and their boxes
    frames = float(params.data.channels * images * pixels)
    cache = min(params.run.cache_mb * 1e6, frames)
    kept = cache / max(frames, 1.0)  # share of the frames that is decoded once
    train = params.train

    def passes(count: int, epochs: int) -> float:
        """Seconds of decoding."""
        return rates.decode * count * (kept + (1 - kept) * epochs)

    views = 1 if train.one_view else 2
    epochs = train.epochs * train.rounds
    pretext = 0 if params.pretrain.method in ("none", "checkpoint") else params.pretrain.epochs
    grouped, k = train.clustering, train.clustering.fine_clusters or train.k
    fits = epochs * grouped.restarts + grouped.final_draws * grouped.final_restarts
    seconds = {
        "prepare": rates.decode * images,
        "pretrain": passes(train_images, pretext) * (pretext > 0) + 2 * rates.pretext * train_images * pretext,
        "extract": (rates.decode + rates.forward) * images,
        "cluster": rates.distance * distances,
        "train": passes(train_images, epochs + 1)
        + (views * rates.train * epochs + rates.forward) * train_images
        + rates.distance * train.k * grouped.pixels_per_cluster * k * grouped.iterations * fits,
        "evaluate": (rates.decode + rates.forward) * images,
    }
    in_files = [points * dimension * 4.0 for points in fitted if points * dimension * 4 > IN_MEMORY]
    checkpoints = KEEP * 3.0 * rates.weights  # with the two moments of each weight
    sizes = {
        "prepare": {"tiles": images * tile},
        "pretrain": {"weights": float(rates.weights), "checkpoints": checkpoints * (pretext > 0)},
        "extract": {
            "features": features,
            # 32-bit vectors of all channels, before whitening
            "features kept in .fs4": images * cells * 4.0 * rates.dimension * params.run.keep_features,
        },
        # the cells and the checkpoints go when the stage is done, a level's cells before the next one's come
        "cluster": {"pseudo labels": images * cells * LABEL, "cells in files": max(in_files, default=0.0)},
        "train": {"weights": float(rates.weights), "checkpoints": checkpoints * (epochs > 0)},
        # cluster ids of up to 256 clusters are a byte a pixel before they are compressed
        "evaluate": {"label maps": images * pixels * (1.0 if train.k <= 256 else 2.0)},
    }
    return Costs(sizes, cache, seconds)
