"""What to do where a device has too little memory: say so, or go on with less of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pipeline.runtime.logs import get_logger

if TYPE_CHECKING:
    import torch

log = get_logger("memory")
T = TypeVar("T")
# what errors say of a full device that do not come from torch's own allocator of CUDA memory
FULL = (
    "CUDA error: out of memory",  # the driver, in a call outside of the allocator
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN and their like, which allocate for themselves
    "DEVICE_ALLOCATION_FAILED",  # cuDNN 9
    "cudaMalloc error out of memory",  # faiss
    "MPS backend out of memory",
)
_remembered: list[Callable[[], None]] = []


def is_device_full(error: BaseException) -> bool:
    """Whether an exception of torch or faiss says that a device, not the host, has too little memory."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of numpy, Arrow, torch or faiss says that memory was refused, by the system or a device."""
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or refused or is_device_full(error)


def on_release(forget: Callable[[], None]) -> None:
    """Have `release_memory` call this first: it forgets tensors that a module remembers and can make again."""
    _remembered.append(forget)


def release_memory() -> None:
    """Give the blocks that torch keeps of a device back to it, so that they can be had in other sizes.

    To be called outside of the handler of the error, whose traceback holds what the failed attempt had.
    """
    import torch

    for forget in _remembered:
        forget()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class Portions:
    """Runs work on batches of images that do not depend on each other, in halves where the device is too small.

    Once halved, later batches come in portions of that size as well. The last bits of a result may depend on the number
    of images in a call, and so it is logged.

    Args:
        spare: Whether to go on in halves; if not, the error passes.
    """

    def __init__(self, spare: bool) -> None:
        self._spare = spare
        self._most: int | None = None

    def run(self, work: Callable[[slice], T], count: int) -> list[T]:
        """Do the work on all images of a batch.

        Args:
                work: Given which of the images, does the work on them; again for all of them after an error.
            count: Images in the batch.

        Returns:
            The results of the portions, in order.

        Raises:
            OutOfMemoryError: Not even one image fits, or nothing is to be spared.
        """
        while True:
            size = min(self._most or count, count)
            try:
                return [work(slice(first, min(first + size, count))) for first in range(0, count, size)]
            except RuntimeError as error:
                if not self._spare or size == 1 or not is_device_full(error):
                    raise
                reason = first_line(error)
            self._most = size // 2
            release_memory()
            log.warning(
                "out of memory on the device (%s): going on with %d images at a time instead of %d; results may differ "
                "in their last bits",
                reason,
                self._most,
                size,
            )

    def map(self, compute: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """A function of a batch (B, ...) to (B, ...), computed in portions."""
        import torch

        found = self.run(lambda part: compute(images[part]), len(images))
        return found[0] if len(found) == 1 else torch.cat(found)


WHOLE = Portions(spare=False)
