"""Resume state in a scratch folder: whole or absent, the last two kept, tensors and plain containers only."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.params import RunParams
from pipeline.runtime.artifacts import replace_file
from pipeline.runtime.logs import get_logger

log = get_logger("checkpoints")
KEEP = 2


class Checkpoints:
    """The checkpoints of one run.

    The folder's name carries the fingerprint of parameters, inputs, code and machine, so whatever lies in it
    belongs to this run.

    Args:
        folder: Where they lie.
        every_steps: How many optimiser steps apart the loop saves within an epoch; 0: only after each epoch.
        from_start: Whether it saves before the first step as well.
    """

    def __init__(self, folder: Path, every_steps: int = 0, *, from_start: bool = False) -> None:
        self.folder, self.every_steps, self.from_start = folder, every_steps, from_start

    @classmethod
    def of_run(cls, folder: Path, run: RunParams) -> Checkpoints:
        """Those of a stage, as often as group `run` says."""
        return cls(folder, run.checkpoint_steps, from_start=run.spare_memory)

    def are_due(self, step: int, steps: int) -> bool:
        """Whether to save after `step` of the `steps` steps of an epoch; its end is saved anyway."""
        return self.every_steps > 0 and step % self.every_steps == 0 and step < steps

    def save(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Write the state at which `step` steps of `epoch` are done, then remove all but the last two."""
        buffer = io.BytesIO()
        torch.save({**state, "epoch": epoch, "step": step}, buffer)
        replace_file(self.folder / f"checkpoint-{epoch:05d}-{step:07d}.pt", buffer.getvalue())
        for old in self._paths()[:-KEEP]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest readable state, or None; a damaged file is removed with a log line."""
        for path in reversed(self._paths()):
            try:
                with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
                    if damaged := archive.testzip():
                        raise zipfile.BadZipFile(f"bad checksum of {damaged}")
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                if not isinstance(state, dict) or not {"epoch", "step"} <= state.keys():
                    raise ValueError("not a checkpoint")
            except Exception as error:  # damaged files make torch raise nearly every kind of exception
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("%s cannot be read (%s); going back to the one before", path, reason)
                path.unlink(missing_ok=True)  # or it would count as one of the two that are kept
                continue
            log.info("going on from %s", path.name)
            return state
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.pt"))
