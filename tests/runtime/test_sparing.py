import logging

import pytest
import torch

from pipeline.runtime.sparing import WHOLE, Portions, is_device_full


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


def test_what_a_full_device_says() -> None:
    assert is_device_full(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_device_full(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not is_device_full(
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    )
    assert not is_device_full(MemoryError())
