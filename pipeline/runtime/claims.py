"""What a process takes of its host: its share of the memory for frames, and a CUDA device for itself.

Without the latter, the workers of an experiment queue would share the device's memory by accident.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.params import RunParams
from pipeline.runtime.device import resolve_device
from pipeline.runtime.distributed import read_ranks
from pipeline.runtime.logs import get_logger

if TYPE_CHECKING:
    import torch

log = get_logger("device")
_held: dict[str, FileLock] = {}  # until this process ends, by the device's UUID


def cache_bytes(run: RunParams) -> int:
    """Memory for the decoded frames of this process: its share of `run.cache_mb`."""
    return run.cache_mb * 10**6 // read_ranks().local_world


def claim_device(run: RunParams) -> torch.device:
    """Choose the device as `resolve_device` does, and keep other stages of this user on this host off it.

    Of several CUDA devices, `auto` and `cuda` take the first that is free. If none is, wait for one.

    Raises:
        ParamsError: See `resolve_device`.
    """
    import torch

    device = resolve_device(run)
    if device.type != "cuda":
        return device
    numbers = [device.index] if device.index is not None else list(range(torch.cuda.device_count()))
    uuids = {number: str(torch.cuda.get_device_properties(number).uuid) for number in numbers}
    free = next((number for number, uuid in uuids.items() if _take(uuid, 0)), None)
    if free is None:
        free = numbers[0]
        log.info("cuda:%d is used by another stage; waiting until that ends", free)
        _take(uuids[free], -1)
    torch.cuda.set_device(free)
    return torch.device("cuda", free)


def _take(uuid: str, timeout: float) -> bool:
    if uuid in _held:
        return True
    # one folder for all projects and snapshots; a user's own, because others may not open the file
    lock = FileLock(Path(tempfile.gettempdir()) / f"fs4-{os.getuid()}-cuda-{uuid}.lock")
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    _held[uuid] = lock
    return True
