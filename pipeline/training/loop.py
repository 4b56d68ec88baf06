"""The epoch loop that every training shares: batches, optimiser steps, bad-loss guard, checkpoints, stop signals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from pipeline.errors import InputError, TrainingError
from pipeline.runtime.interrupts import StopSignal
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.dealing import Dealing

Batches = list[list[int]]
Loader = Callable[[Batches], Iterator[tuple[list[int], torch.Tensor]]]
MAX_BAD_STEPS = 3


class Trainee(Protocol):
    """What the loop trains."""

    optimizer: torch.optim.Optimizer

    def epoch_batches(self, epoch: int) -> Batches:
        """The image indices of every step, a function of (seed, epoch) alone."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare an epoch; what it computes belongs to `state_dict`."""

    def losses(self, epoch: int, indices: list[int], images: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        """Scalars of one step, from uint8 images (B, 3, h, w); "loss" is the one to be minimised.

        At `progress` in 0..1 of the whole run, a function of epoch and step alone. Of several processes each is given
        its own images, and all have the scalars of the whole batch.
        """

    def learning_rate_factor(self, progress: float) -> float:
        """Factor on the initial learning rates at `progress` in 0..1 of the whole run."""

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """The epoch's row for the curves.

        Raises:
            TrainingError: A monitor found a collapse.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the optimiser: tensors and plain containers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""


def run_epochs(
    trainee: Trainee,
    *,
    epochs: int,
    load: Loader,
    checkpoints: Checkpoints,
    curves: Curves,
    stop: StopSignal,
    log: logging.Logger,
    dealing: Dealing | None = None,
) -> None:
    """Train for `epochs` passes; go on where an interrupted run of the same fingerprint stopped.

    The state is saved after every epoch, every `checkpoints.every_steps` steps, and when a stop signal came.
    A run that was interrupted and resumed ends with the same bits as one that was not, on the CPU with the same
    number of threads: all randomness is a function of (seed, epoch, image), and the state holds the rest.

    Of several processes the first one reads and writes the state. All do the same steps, and stop at the same one.

    Args:
        trainee: What is trained.
        epochs: Passes over the images.
        load: Turns batches of indices into uint8 images (B, 3, h, w).
        checkpoints: Resume state.
        curves: Gets one row per epoch.
        stop: Asked after every step.
        log: Gets one line per epoch.
        dealing: How batches are dealt to several processes, the one that the trainee uses; None for one process.

    Raises:
        TrainingError: The loss was not finite in three steps in a row or in a whole epoch, or a monitor found a
            collapse.
        InputError: The checkpoint does not fit the trainee.
        Interrupted: A stop signal came; the state up to the last finished step is saved.
    """
    # by the name that torch's schedulers use: where a training starts over, the rates are no longer those of its start
    base_rates = [group.setdefault("initial_lr", group["lr"]) for group in trainee.optimizer.param_groups]
    first_epoch, first_step, bad_steps, sums = 0, 0, 0, dict[str, float]()
    dealing = dealing or Dealing()
    ranks = dealing.ranks
    if (state := ranks.broadcast(checkpoints.load() if ranks.is_first else None)) is not None:
        try:
            trainee.load_state_dict(state["trainee"])
            trainee.optimizer.load_state_dict(state["optimizer"])
            curves.replay(state["curves"])
            first_epoch, first_step = state["epoch"], state["step"]
            bad_steps, sums = state["bad_steps"], state["sums"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{checkpoints.folder}: holds a checkpoint that does not fit this training ({reason}); remove it with "
                "`fs4 clean`, then run again"
            ) from None

    def save(epoch: int, step: int) -> None:
        if ranks.is_first:
            checkpoints.save(
                epoch,
                step,
                {
                    "trainee": trainee.state_dict(),
                    "optimizer": trainee.optimizer.state_dict(),
                    "curves": curves.rows,
                    "bad_steps": bad_steps,
                    "sums": sums,
                },
            )
        stop.share(ranks)  # nobody goes on, or ends the run by stopping, before the state is saved

    if state is None and checkpoints.from_start:
        save(0, 0)
    for epoch in range(first_epoch, epochs):
        batches = trainee.epoch_batches(epoch)
        if first_step == 0:
            sums = {}
            trainee.begin_epoch(epoch)
        with stop.deferred():
            for step, (indices, images) in enumerate(dealing.deal(batches[first_step:], load), first_step):
                progress = (epoch + step / len(batches)) / epochs
                factor = trainee.learning_rate_factor(progress)
                for group, rate in zip(trainee.optimizer.param_groups, base_rates, strict=True):
                    group["lr"] = rate * factor
                values = _step(trainee, epoch, indices, images, progress, dealing)
                bad_steps = 0 if values else bad_steps + 1
                if bad_steps == MAX_BAD_STEPS:
                    raise _diverged(f"in {bad_steps} steps in a row (epoch {epoch + 1}, step {step + 1})")
                for key, value in values.items():
                    sums[key] = sums.get(key, 0.0) + value
                sums["steps"] = sums.get("steps", 0.0) + bool(values)
                if stop.share(ranks) or checkpoints.are_due(step + 1, len(batches)):
                    save(epoch, step + 1)
                    stop.check()
            # still deferred: an epoch that shows in the curves is in a checkpoint as well
            steps = sums.pop("steps", 0.0)
            if not steps:
                raise _diverged(f"in any step of epoch {epoch + 1}")
            row = trainee.end_epoch(epoch, {key: value / steps for key, value in sums.items()})
            curves.append(row)
            log.info(
                "epoch %d/%d: %s", epoch + 1, epochs, ", ".join(f"{key} {value:.4g}" for key, value in row.items())
            )
            first_step, sums = 0, {}
            save(epoch + 1, 0)


def _diverged(where: str) -> TrainingError:
    return TrainingError(f"the loss was not a finite number {where}; lower the learning rate or set precision: fp32")


def _step(
    trainee: Trainee, epoch: int, indices: list[int], images: torch.Tensor, progress: float, dealing: Dealing
) -> dict[str, float]:
    """One optimiser step; an empty result means that the loss was not finite and nothing was changed."""
    trainee.optimizer.zero_grad(set_to_none=True)
    losses = trainee.losses(epoch, indices, images, progress)
    if dealing.ranks.any(not torch.isfinite(losses["loss"])):
        return {}
    losses["loss"].backward()
    dealing.average_gradients(weight for group in trainee.optimizer.param_groups for weight in group["params"])
    trainee.optimizer.step()
    return {key: float(value.detach()) for key, value in losses.items()}
