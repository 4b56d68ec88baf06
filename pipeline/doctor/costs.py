"""Disk, memory and time of the graph, estimated from steps of the network that are timed on this machine."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.params import Params
from pipeline.runtime.device import autocast, resolve_device

TIMED = 8  # images of a timed batch at most
STEPS = 3  # the fastest counts: the first also pays for what is set up once


@dataclass(frozen=True)
class Rates:
    """Seconds per image on this machine.

    Attributes:
        device: Where they were measured.
        decode: To read, decode and frame an image.
        pretext: One view of pre-training, forwards and backwards.
        train: One view of the training, forwards and backwards.
        forward: The segmenter without gradients.
        weights: Bytes of the segmenter's weights.
        dimension: Channels of the map that stage `extract` pools.
    """

    device: str
    decode: float
    pretext: float
    train: float
    forward: float
    weights: int
    dimension: int


@dataclass(frozen=True)
class Costs:
    """Estimates for the whole graph.

    Attributes:
        bytes: On disk, by what takes them.
        cache: Bytes of decoded frames in memory.
        seconds: By stage.
    """

    bytes: dict[str, float]
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

    from pipeline.backbones.encoder import build_encoder
    from pipeline.segmentation.model import build_segmenter

    device = resolve_device(params.run)
    channels = params.data.channels
    inputs = None if channels == 3 else {"mean": [0.5] * channels, "std": [0.25] * channels}
    encoder = build_encoder(
        params.pretrain.backbone, params.pretrain.channels, 0, params.pretrain.vit_features, inputs=inputs
    )
    train = params.train
    segmenter = build_segmenter(
        encoder.architecture,
        train.k,
        train.cae.model_dump(),
        fine_clusters=train.clustering.fine_clusters,
        start=encoder,
    )
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
        weights=sum(weight.numel() * 4 for weight in segmenter.parameters()),
        dimension=encoder.map_width(params.extract.source),
    )


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
        Disk from above, before compression; seconds of decoding and of the networks alone.
    """
    pixels = size[0] * size[1]
    dimension = min(params.extract.pca or rates.dimension, rates.dimension)
    cells = sum(level**2 for level in params.extract.levels)
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
    seconds = {
        "prepare": rates.decode * images,
        "pretrain": passes(train_images, pretext) * (pretext > 0) + 2 * rates.pretext * train_images * pretext,
        "extract": (rates.decode + rates.forward) * images,
        "train": passes(train_images, epochs + 1) + (views * rates.train * epochs + rates.forward) * train_images,
        "evaluate": (rates.decode + rates.forward) * images,
    }
    sizes = {
        "tiles": images * tile,
        "features": features,
        # 32-bit vectors of all channels, before whitening
        "features kept in .fs4": images * cells * 4.0 * rates.dimension * params.run.keep_features,
        # cluster ids of up to 256 clusters are a byte a pixel before they are compressed
        "label maps": images * pixels * (1.0 if train.k <= 256 else 2.0),
        "weights": 2.0 * rates.weights,
    }
    return Costs(sizes, cache, seconds)
