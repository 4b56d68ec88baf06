"""Supervised training of one network on some labelled images: the head alone, then the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from pipeline.data.views import apply_photometric, draw_photometric, normalise
from pipeline.errors import InputError, TrainingError
from pipeline.labels.labelled import LabelledFrames
from pipeline.labels.network import LabelledNet, labelled_loss
from pipeline.params import FinetuneParams
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.randomness import generator, uniforms


def finetune(
    net: LabelledNet,
    labelled: LabelledFrames,
    chosen: Sequence[int],
    params: FinetuneParams,
    *,
    learning_rate: float,
    ignore_index: int,
    seed: int,
    device: torch.device,
    check_stop: Callable[[], None],
) -> None:
    """Train a network in place.

    The body stays in evaluation mode and gets no gradient while the head is alone.

    Args:
        net: The network.
        labelled: All labelled train images.
        chosen: Indices of those to learn from.
        params: Group `finetune`.
        learning_rate: Peak for the whole network.
        ignore_index: Id of the pixels that have no label.
        seed: Decides batches and colour changes.
        device: Where to compute.
        check_stop: Asked after every step.

    Raises:
        InputError: No chosen image has a labelled pixel.
        TrainingError: The loss is no finite number.
    """
    if not labelled.has_labels(chosen, ignore_index):
        raise InputError(
            f"every pixel of the {len(chosen)} masks to learn from has the ignored id {ignore_index}; check the masks, "
            "or take other images: a larger share in finetune.fractions, or another finetune.seed"
        )
    net.to(device).to(memory_format=torch.channels_last)
    phases = [
        (params.head_steps, list(net.head.parameters()), params.head_learning_rate),
        (params.steps, [weight for weight in net.parameters() if weight.requires_grad], learning_rate),
    ]
    step = 0
    for whole, (steps, weights, rate) in enumerate(phases):
        net.train()
        net.body.train(bool(whole))
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=params.weight_decay, fused=True)
        for position in range(steps):
            if whole:
                optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * position / steps))
            indices = draw_batch(
                labelled.frames.sizes, chosen, params.batch_size, generator(seed, "labels/batch", step)
            )
            images, masks = augment(*labelled.take(indices), params, seed, step)
            with autocast(device, params.precision):
                batch = normalise(copy_to(device, images))
                logits = net(batch, head_only=not whole)
            loss = labelled_loss(logits, copy_to(device, masks), ignore_index)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"fine-tuning on {len(chosen)} images: the loss is no finite number (step {step + 1}); lower "
                    "finetune.learning_rate and finetune.random_learning_rate, or set finetune.precision: fp32"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            check_stop()
    net.eval()


def draw_batch(
    sizes: Sequence[tuple[int, int]], chosen: Sequence[int], batch_size: int, rng: np.random.Generator
) -> list[int]:
    """Draw images of one shape with replacement; a shape is as likely as its images are many.

    Args:
        sizes: H and W of every labelled image.
        chosen: Indices to draw from.
        batch_size: How many.
        rng: Source of the choice.
    """
    shape = sizes[chosen[int(rng.integers(len(chosen)))]]
    alike = [index for index in chosen if sizes[index] == shape]
    return [alike[place] for place in rng.integers(len(alike), size=batch_size)]


def augment(
    images: torch.Tensor, masks: torch.Tensor, params: FinetuneParams, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror and recolour a batch, a function of (seed, step, position in the batch).

    Args:
        images: uint8 (B, 3, H, W).
        masks: int64 (B, H, W).
        params: `flip`, `jitter` and `hue`.
        seed: Decides the changes.
        step: Number of the step.

    Returns:
        Images as float32 in 0..1, and masks.
    """
    slots = range(len(images))
    mirrored = torch.from_numpy(uniforms(seed, "labels/flip", step, slots, 1)[:, 0] < 0.5) & params.flip
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    masks = torch.where(mirrored[:, None, None], masks.flip(2), masks)
    change = draw_photometric(seed, "labels/colour", step, slots, jitter=params.jitter, hue=params.hue)
    # no gray or blurred images: the colours that are scored are those of the frames
    change = replace(change, gray=torch.zeros_like(change.gray), blur=torch.zeros_like(change.blur))
    return apply_photometric(images.float() / 255.0, change), masks
