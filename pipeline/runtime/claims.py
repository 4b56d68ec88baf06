"""What a process takes of its host: its share of the memory for frames, and a CUDA device for itself.

Without the latter, the workers of an experiment queue would share the device's memory by accident.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.params import RunParams
from pipeline.runtime.device import resolve_device
from pipeline.runtime.distributed import ALONE, Ranks, read_ranks
from pipeline.runtime.logs import get_logger

if TYPE_CHECKING:
    import torch

log = get_logger("device")
_held: dict[str, FileLock] = {}  # until this process ends, by the device's UUID


def cache_bytes(run: RunParams) -> int:
    """Memory for the decoded frames of this process: its share of `run.cache_mb`."""
    return run.cache_mb * 10**6 // read_ranks().local_world


def claim_device(run: RunParams, ranks: Ranks = ALONE) -> torch.device:
    """Choose the device as `resolve_device` does, and keep other stages of this user on this host off it.

    Of several CUDA devices, `auto` and `cuda` take the first that is free, or several processes the first that are,
    one each. If there are too few, wait. All processes that run the stage together must call it at the same point.

    Raises:
        ParamsError: See `resolve_device`.
        RuntimeError: Another process ended.
    """
    import torch

    device = resolve_device(run)
    if device.type != "cuda":
        return device
    numbers = [device.index] if device.index is not None else list(range(torch.cuda.device_count()))
    uuids = {number: str(torch.cuda.get_device_properties(number).uuid) for number in numbers}
    own = _take_together(uuids, ranks)
    torch.cuda.set_device(own)  # or what names no device would go to the first
    return torch.device("cuda", own)


def _take_together(uuids: dict[int, str], ranks: Ranks) -> int:
    """Take a device for each process at once, or none and try again; returns the number of this process's.

    Processes that kept what they have while others of them wait could wait for each other's devices forever. As they
    wait together, in short rounds, none runs into the timeout of the connection.

    Args:
        uuids: The devices of this host that may be taken, by number.
        ranks: The processes.
    """
    is_told = False
    while True:
        takes = ranks.local_rank == 0  # for all that its launcher started
        taken = _take(uuids, ranks.local_world) if takes else []
        if not ranks.any(takes and not taken):
            return ranks.broadcast(ranks.gather(taken))[ranks.rank - ranks.local_rank][ranks.local_rank]
        _release(uuids, taken)
        if not is_told and len(uuids) == 1:
            log.info("cuda:%d is used by another stage; waiting until that ends", *uuids)
        elif not is_told:
            log.info(
                "other stages use the CUDA devices, %d must be free; waiting until enough of them end", ranks.world
            )
        is_told = True
        # never the same time, or two runs could take each other's devices in round after round
        time.sleep(random.SystemRandom().uniform(0.5, 1.5))


def _take(uuids: dict[int, str], count: int) -> list[int]:
    """Lock so many devices, those first that are locked already; returns their numbers, none if fewer are free."""
    taken: list[int] = []
    for number in sorted(uuids, key=lambda number: (uuids[number] not in _held, number)):
        if len(taken) < count and _lock(uuids[number]):
            taken.append(number)
    if len(taken) < count:
        _release(uuids, taken)
        return []
    return taken


def _release(uuids: dict[int, str], numbers: list[int]) -> None:
    for number in numbers:
        _held.pop(uuids[number]).release()


def _lock(uuid: str) -> bool:
    if uuid in _held:
        return True
    # one folder for all projects and snapshots; a user's own, because others may not open the file
    lock = FileLock(Path(tempfile.gettempdir()) / f"fs4-{os.getuid()}-cuda-{uuid}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    _held[uuid] = lock
    return True
