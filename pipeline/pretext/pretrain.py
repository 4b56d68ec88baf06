"""Pretext training: from images to the weights of a backbone and its decoder."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from pipeline.backbones.backbone import Backbone
from pipeline.backbones.encoder import Encoder, build_encoder
from pipeline.data.loading import shape_batches
from pipeline.errors import InputError, TrainingError
from pipeline.params import PretrainParams
from pipeline.pretext.batches import draw_views
from pipeline.pretext.method import PretextMethod
from pipeline.pretext.methods import METHODS
from pipeline.pretext.optimisers import build_optimizer
from pipeline.pretext.quality import ViewQuality
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.interrupts import StopSignal
from pipeline.runtime.randomness import generator
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.dealing import Dealing
from pipeline.training.loop import Batches, Loader, run_epochs
from pipeline.training.sparing import heavy_modules, train_sparing
from pipeline.training.synced_norm import synchronise

COLLAPSE_AFTER = 3  # epochs; the spread of the embeddings starts small in a random network


class PretextTrainee:
    """What `run_epochs` trains in stage `pretrain`, whatever the method."""

    def __init__(
        self,
        model: PretextMethod,
        params: PretrainParams,
        sizes: Sequence[tuple[int, int]],
        device: torch.device,
        quality: ViewQuality,
        dealing: Dealing | None = None,
    ) -> None:
        self.dealing = dealing or Dealing()
        synchronise_networks(model, self.dealing)
        self.model: PretextMethod = model.to(device).to(memory_format=torch.channels_last)
        self.params = params
        self.sizes = sizes
        self.device = device
        self.quality = quality
        self.optimizer = build_optimizer(model.parameters(), params)

    def epoch_batches(self, epoch: int) -> Batches:
        """Batches of at least two images: losses compare images, or normalise over them."""
        rng = generator(self.params.seed, "pretrain order", epoch)
        return shape_batches(self.sizes, self.params.batch_size, rng, smallest=2)

    def begin_epoch(self, epoch: int) -> None:
        """Switch to training mode."""
        self.model.train()

    def losses(
        self, epoch: int, indices: list[int], images: torch.Tensor, progress: float = 0.0
    ) -> dict[str, torch.Tensor]:
        """Cut views of every frame and compare them."""
        frames = copy_to(self.device, images).float() / 255.0
        batch = draw_views(frames, self.params, epoch, indices, self.model.extra_views, self.dealing, progress)
        with autocast(self.device, self.params.precision):
            losses: dict[str, torch.Tensor] = self.model(batch)
        return losses

    def learning_rate_factor(self, progress: float) -> float:
        """Linear warm-up, then half a cosine."""
        warmup = self.params.warmup_fraction
        if progress < warmup:
            return (progress + 1e-3) / (warmup + 1e-3)
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-9)))

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Check the spread of the embeddings, and measure the network."""
        if epoch + 1 >= COLLAPSE_AFTER and means["embedding_std"] < self.params.min_embedding_std:
            raise TrainingError(
                f"the embeddings collapsed: embedding_std {means['embedding_std']:.3f} is below "
                f"pretrain.min_embedding_std {self.params.min_embedding_std}; lower pretrain.learning_rate, or raise "
                "pretrain.batch_size"
            )
        found = self.quality.measure(self.model.encoder)
        return {**means, **found, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def state_dict(self) -> dict[str, Any]:
        """Weights and statistics of the network and its projections."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.model.load_state_dict(state["model"])
        self.model.train()


def pretrain_encoder(
    params: PretrainParams,
    *,
    sizes: Sequence[tuple[int, int]],
    load: Loader,
    quality: ViewQuality,
    device: torch.device,
    checkpoints: Checkpoints,
    curves: Curves,
    stop: StopSignal,
    log: logging.Logger,
    start: Encoder | None = None,
    ranks: Ranks = ALONE,
) -> Encoder:
    """Train a backbone and its decoder, from random weights unless told otherwise, without labels.

    Args:
        params: Group `pretrain`; methods `none` and `checkpoint` return the weights as they are.
        sizes: Frame height and width of every train image.
        load: Turns batches of indices into uint8 images (B, 3, h, w).
        quality: Measures the network after every epoch.
        device: Where to compute.
        checkpoints: Resume state.
        curves: Gets one row per epoch.
        stop: Asked after every step.
        log: Gets one line per epoch.
        start: What is trained; by default a network with random weights.
        ranks: The processes that share the work, all of which get the result.

    Returns:
        The encoder, on the CPU, in evaluation mode.

    Raises:
        InputError: There are fewer than two train images of one shape.
        TrainingError: The loss diverged or the embeddings collapsed.
    """
    encoder = start or build_encoder(params.backbone, params.channels, params.seed, params.vit_features)
    if params.method in ("none", "checkpoint"):
        return encoder.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed + 1)
        model = METHODS[params.method](encoder, params)
    dealing = Dealing(ranks)
    trainee = PretextTrainee(model, params, sizes, device, quality, dealing)
    if not trainee.epoch_batches(0):
        raise InputError(f"{len(sizes)} train images: pretext training needs two of one shape; add images")
    train = partial(
        run_epochs,
        trainee,
        epochs=params.epochs,
        load=load,
        checkpoints=checkpoints,
        curves=curves,
        stop=stop,
        log=log,
        dealing=dealing,
    )
    spare = checkpoints.from_start and ranks.is_alone  # one of several cannot go back alone
    train_sparing(train, heavy_modules(encoder), spare=spare, log=log)
    return encoder.cpu().eval()


def synchronise_networks(model: PretextMethod, dealing: Dealing) -> None:
    """Let the networks that see images normalise over the images of all processes.

    What comes after them works on gathered rows, and keeps its plain batch norms.
    """
    for module in model.modules():
        if isinstance(module, (Encoder, Backbone)):
            synchronise(module, dealing)
