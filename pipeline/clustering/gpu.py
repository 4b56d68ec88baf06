"""Where faiss computes: on the CPU, or on the CUDA device of the run if faiss was built with GPUs."""

from __future__ import annotations

from functools import cache
from typing import Any

import faiss

from pipeline.params import RunParams
from pipeline.runtime.logs import get_logger

log = get_logger("faiss")
TEMPORARY = 256 * 2**20  # bytes; by default faiss takes 1.5 GiB of a device that it shares with torch
_used: list[int] = []  # the number of the device, if one is used


def use_device(run: RunParams) -> None:
    """Let k-means and nearest neighbours compute where `run.device` says; without faiss-gpu on the CPU.

    Labels and distances that are reported are computed in float64 on the CPU in any case.

    Raises:
        ParamsError: See `resolve_device`.
    """
    _used.clear()
    if not faiss.get_num_gpus():  # first, because a stage that needs no torch should not import it
        return
    from pipeline.runtime.claims import claim_device

    device = claim_device(run)
    if device.type == "cuda":
        _used.append(device.index or 0)
        log.info("faiss computes on cuda:%d", _used[0])


def uses_gpu() -> bool:
    """Whether `use_device` found a GPU."""
    return bool(_used)


def place_index(index: Any) -> Any:
    """Move a flat index to the GPU, if one is used; else it is the index itself."""
    return faiss.index_cpu_to_gpu(_resources(_used[0]), _used[0], index) if _used else index


@cache
def _resources(number: int) -> Any:
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY)
    return resources
