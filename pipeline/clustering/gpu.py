"""Where faiss computes: on the CPU, or on the CUDA device of the run if faiss can compute there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import faiss

from pipeline.runtime.logs import get_logger
from pipeline.runtime.sparing import first_line, is_device_full, release_memory

if TYPE_CHECKING:
    import torch

    from pipeline.runtime.stage import Stage

log = get_logger("faiss")
TEMPORARY = 256 * 2**20  # bytes; by default faiss takes 1.5 GiB of a device that it shares with torch
_used: list[int] = []  # the number of the device, if one is used


def finds_gpu() -> bool:
    """Whether this build of faiss computes on GPUs and sees one."""
    return bool(faiss.get_num_gpus())


def use_device(device: torch.device) -> None:
    """Let k-means and nearest neighbours compute on a CUDA device, if faiss can; else on the CPU.

    Labels and distances that are reported are computed in float64 on the CPU in any case.
    """
    _used.clear()
    if device.type == "cuda" and finds_gpu():
        _used.append(device.index or 0)
        log.info("faiss computes on cuda:%d", _used[0])


def use_device_of(stage: Stage) -> None:
    """The same for a stage that needs no device but for this, and then does not import torch without need."""
    if finds_gpu():
        use_device(stage.device)


def uses_gpu() -> bool:
    """Whether `use_device` found a GPU."""
    return bool(_used)


def place_index(index: Any) -> Any:
    """Move a flat index to the GPU, if one is used and has room for it; else it is the index itself.

    Without room, faiss computes on the CPU until `use_device` is called again.
    """
    if not _used:
        return index
    release_memory()  # what torch keeps for itself is room for faiss
    try:
        return faiss.index_cpu_to_gpu(_resources(_used[0]), _used[0], index)
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        log.warning("faiss computes on the CPU: cuda:%d has no room for it (%s)", _used[0], first_line(error))
    _used.clear()
    _resources.cache_clear()
    return index


@cache
def _resources(number: int) -> Any:
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY)
    return resources
