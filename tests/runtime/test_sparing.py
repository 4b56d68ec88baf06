import logging

import pytest
import torch

from pipeline.runtime.sparing import WHOLE, Portions, is_device_full, is_out_of_memory


def refusing(most: int, seen: list[int]):
    """A network that has memory for a few images only, and says so as CUDA does."""

    def compute(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")
        return images.float() * 2

    return compute


def test_halves_that_fit_give_the_same_and_stay(caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    caplog.set_level(logging.INFO, "fs4")
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)
    images, seen = torch.arange(20).view(10, 2), list[int]()
    portions = Portions(spare=True)
    assert torch.equal(portions.map(refusing(3, seen), images), images.float() * 2)
    assert seen == [10, 5, 2, 2, 2, 2, 2]
    assert torch.equal(portions.map(refusing(3, seen), images[:3]), images[:3].float() * 2)
    assert seen[7:] == [2, 1]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert (
        "(CUDA out of memory. Tried to allocate 2.00 GiB): going on with 5 images at a time instead of 10" in lines[0]
    )


def test_nothing_is_halved_unasked_nor_below_one_image() -> None:
    seen: list[int] = []
    with pytest.raises(torch.OutOfMemoryError):
        WHOLE.map(refusing(3, seen), torch.zeros(4, 1))
    assert seen == [4]
    with pytest.raises(torch.OutOfMemoryError):
        Portions(spare=True).map(refusing(0, seen), torch.zeros(4, 1))
    assert seen == [4, 4, 2, 1]


def test_other_errors_pass() -> None:
    def broken(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Portions(spare=True).map(broken, torch.zeros(4, 1))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory\nCUDA kernel errors might be"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("StandardGpuResources: alloc fail type FlatData (cudaMalloc error out of memory [2])"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_what_a_full_device_says(error: RuntimeError) -> None:
    def compute(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise error
        return images

    assert is_device_full(error)
    assert is_out_of_memory(error)
    assert torch.equal(Portions(spare=True).map(compute, torch.ones(3, 1)), torch.ones(3, 1))


def test_what_a_full_host_and_other_errors_say() -> None:
    full = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    for error in (full, MemoryError()):
        assert is_out_of_memory(error)
        assert not is_device_full(error)
    for error in (RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("out of memory")):
        assert not is_out_of_memory(error)
        assert not is_device_full(error)
