"""Training where the device has too little memory for the activations: they are computed again in the backward pass."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.backbones.backbone import Backbone
from pipeline.runtime.sparing import first_line, is_device_full, release_memory


def train_sparing(train: Callable[[], None], modules: Sequence[nn.Module], *, spare: bool, log: logging.Logger) -> None:
    """Run a training; where the device runs out of memory, run it once more from its last checkpoint, with less.

    The batch stays whole: norms and most losses look across it, so that halves with accumulated gradients would be
    another training. What is spared are activations, so that the result is the same.

    Args:
        train: Trains, and goes on from its last checkpoint, of which there must be one from before the first step.
        modules: Where the activations are.
        spare: Whether to do so; if not, the error passes.
        log: For one line.

    Raises:
        OutOfMemoryError: There is too little memory all the same.
    """
    try:
        train()
        return
    except RuntimeError as error:
        if not spare or not is_device_full(error):
            raise
        reason = first_line(error)
    log.warning(
        "out of memory on the device (%s): going on from the last checkpoint, with activations computed again instead "
        "of kept; the result is the same, a step takes about a third longer",
        reason,
    )
    release_memory()
    with recomputed(modules):
        train()


@contextlib.contextmanager
def recomputed(modules: Sequence[nn.Module]) -> Iterator[None]:
    """In the block, keep only the inputs of some modules for the backward pass (Chen et al. 2016).

    Args:
        modules: They take and give tensors, draw no random numbers, and change nothing but their buffers.
    """
    for module in modules:
        object.__setattr__(module, "forward", _recomputing(module))
    try:
        yield
    finally:
        for module in modules:
            object.__delattr__(module, "forward")  # that of the class comes back


def heavy_modules(network: nn.Module) -> list[nn.Module]:
    """The modules whose activations are most of a network's: stems and blocks of its backbones."""
    found: list[nn.Module] = []
    for part in network.modules():
        if isinstance(part, Backbone):
            found += [part.stem, *(block for stage in part.stages for block in _blocks(stage))]
    return found


def _blocks(stage: nn.Module) -> list[nn.Module]:
    made_of_blocks = isinstance(stage, nn.Sequential) and any(any(part.children()) for part in stage)
    return [block for part in stage.children() for block in _blocks(part)] if made_of_blocks else [stage]


def _recomputing(module: nn.Module) -> Callable[..., Any]:
    forward = module.forward

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        # a batch counts in running statistics once
        held = [buffer.clone() for buffer in module.buffers()]
        try:
            yield
        finally:
            for buffer, value in zip(module.buffers(), held, strict=True):
                buffer.data.copy_(value)

    def call(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (contextlib.nullcontext(), again()),
        )

    return call
