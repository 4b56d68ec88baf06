"""Which processor to compute on, in which precision, with how many threads."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from pipeline.errors import ParamsError
from pipeline.params import Precision, RunParams
from pipeline.runtime.distributed import read_ranks
from pipeline.runtime.logs import get_logger

if TYPE_CHECKING:
    import torch

log = get_logger("device")


def resolve_device(run: RunParams) -> torch.device:
    """Choose the device and set the number of CPU threads; on CUDA, float32 is float32 in convolutions too.

    Args:
        run: `device` is auto, cpu, mps, cuda or cuda:N; `threads` is 0 for all cores.

    Returns:
        The device; `auto` takes CUDA, then MPS, then the CPU, and says which. CUDA has a number only if `device` gives
        one: which device of several to use is for `claim_device` to say.

    Raises:
        ParamsError: A device was asked for by name that is not there.
    """
    import torch

    torch.set_num_threads(thread_count(run))
    ranks = read_ranks()
    name = run.device
    if name == "auto":
        mps = ranks.is_alone and torch.backends.mps.is_available()  # torch connects no processes on MPS
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        log.info("run.device auto: computing on %s", name)
    count = torch.cuda.device_count() if name == "cuda" else 1
    if name != "cpu" and ranks.local_world > max(1, count):
        raise ParamsError(
            f"run.device: {ranks.local_world} processes on this host need a CUDA device each, and {name!r} gives "
            f"{count}; start fewer, or set run.device to cuda or cpu"
        )
    kind, _, number = name.partition(":")
    # before torch reads the number, which it keeps in 8 bits: 300 would be 44
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise ParamsError(
            f"run.device: {run.device!r} is not available ({torch.cuda.device_count()} CUDA devices found); "
            "check the driver and the CUDA build of torch, or use auto or cpu"
        )
    if kind == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # by default convolutions in float32 round their inputs to 10 bits
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ParamsError("run.device: 'mps' is not available on this machine; use auto or cpu")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def thread_count(run: RunParams) -> int:
    """CPU threads to use: `run.threads`, or this process's share of the cores that it may run on."""
    if run.threads:
        return run.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // read_ranks().local_world)


def uses_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether `precision` means bfloat16 on this device; `auto` asks the hardware."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_computes_bf16()
    return False


def describe_device(device: torch.device) -> dict[str, Any]:
    """What the bits of a result depend on: the kind of device, the name of a GPU, and what precision `auto` means."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {"type": device.type, "name": name, "bf16": uses_bf16(device, "auto")}


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Mixed precision for the forward pass: bfloat16 where `uses_bf16` says so, else nothing."""
    import torch

    if not uses_bf16(device, precision):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def copy_to(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to where it is computed on; on the CPU it is the tensor itself.

    To CUDA the copy does not wait, and the work that needs it follows in the same stream. It runs beside that of the
    host if the tensor is page-locked (see `lock_pages`). Elsewhere it waits: on MPS a copy that does not may read
    memory that was freed meanwhile (PyTorch issues 139550 and 189690).
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def lock_pages(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """Put a tensor that will go to CUDA into page-locked memory; otherwise it is the tensor itself.

    That costs a copy on the host, so it pays in a thread that works ahead, not just before `copy_to`.
    """
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _cpu_computes_bf16() -> bool:
    # bfloat16 is emulated, and slower than fp32, on processors without these instructions
    import torch

    capabilities = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capabilities:
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check else False
