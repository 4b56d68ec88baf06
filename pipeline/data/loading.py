"""Frames as tensors: decoded on demand, kept in memory as far as it was granted, in batches of one shape."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pipeline.data.frames import frame_size
from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.data.reading import read_frame
from pipeline.errors import PipelineError
from pipeline.runtime.device import lock_pages

Batch = tuple[list[int], torch.Tensor]
CPU = torch.device("cpu")


class FrameDataset(Dataset[torch.Tensor]):
    """The frames of some images of the table.

    Frames stay in memory in the order in which they are first asked for, until the grant is used up; none is
    dropped again. The cache changes nothing but the speed. A copy in a worker process starts without it.

    Attributes:
        rows: The images, in the order of the indices.
        sizes: (h, w) of each frame, known without decoding.
    """

    def __init__(self, rows: Sequence[ImageRow], table: ImageTable, cache_bytes: int) -> None:
        """Decode nothing yet.

        Args:
            rows: Usable images of the table, such as `table.select("train")`.
            table: Says how to decode and to frame.
            cache_bytes: Memory granted for decoded frames.
        """
        self.rows = list(rows)
        self.sizes = [frame_size(row.width, row.height, table.frame) for row in self.rows]
        self._table = replace(table, rows=[])  # how to decode; a worker need not be sent all rows twice
        self._granted = cache_bytes
        self._cache: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        """The frame of one image, uint8 (C, h, w), the caller's own.

        Raises:
            InputError: The file is gone or is not the one that `prepare` saw.
        """
        if (held := self._cache.get(index)) is not None:
            return held.clone()
        frame = torch.from_numpy(read_frame(self.rows[index], self._table))  # (C, h, w)
        self.keep(index, frame)
        return frame

    def keep(self, index: int, frame: torch.Tensor) -> None:
        """Put a frame that was decoded elsewhere into the cache, if the grant allows."""
        if index not in self._cache and frame.nbytes <= self._granted:
            self._granted -= frame.nbytes
            self._cache[index] = frame.clone()

    def holds(self, indices: Sequence[int]) -> bool:
        """Whether all of these frames are in memory."""
        return all(index in self._cache for index in indices)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process gets: everything but the cache."""
        return {**self.__dict__, "_cache": {}, "_granted": 0}


def shape_batches(
    sizes: Sequence[tuple[int, int]], batch_size: int, rng: np.random.Generator | None, *, smallest: int = 1
) -> list[list[int]]:
    """Put images whose frames have the same shape into batches.

    Args:
        sizes: (h, w) of each image's frame, in pixels.
        batch_size: Images per batch, at least `smallest`.
        rng: Shuffles the images and then the batches; None keeps their order (batches go by their first image).
        smallest: The rest of a shape, if smaller than this, joins the previous batch of that shape, which then
            exceeds `batch_size`. If a shape has fewer images than this, they are left out: they are the indices
            that no batch holds.

    Returns:
        Indices by batch; each index is in one batch, but for those left out.
    """
    if batch_size < smallest:
        raise ValueError(f"batches of {batch_size} cannot have at least {smallest} images")
    order = range(len(sizes)) if rng is None else rng.permutation(len(sizes)).tolist()
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index in order:
        shapes[sizes[index]].append(index)
    batches: list[list[int]] = []
    for members in shapes.values():
        chunks = [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
        if len(chunks) > 1 and len(chunks[-1]) < smallest:
            chunks[-2:] = [chunks[-2] + chunks[-1]]
        batches += [chunk for chunk in chunks if len(chunk) >= smallest]
    if rng is None:
        return sorted(batches)
    return [batches[position] for position in rng.permutation(len(batches))]


def ordered_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Put consecutive images of equal frame shape into batches, so that the images stay in order.

    Args:
        sizes: (h, w) of each image's frame, in pixels.
        batch_size: Images per batch at most; smaller where the shape changes.

    Returns:
        Indices by batch, ascending over all batches.
    """
    batches: list[list[int]] = []
    for index, size in enumerate(sizes):
        if batches and len(batches[-1]) < batch_size and sizes[batches[-1][0]] == size:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def load_batches(
    dataset: FrameDataset, batches: list[list[int]], *, workers: int, device: torch.device = CPU
) -> Iterator[Batch]:
    """Load batches in the order given; one is decoded while the caller works on the one before.

    Args:
        dataset: The frames.
        batches: Indices by batch, the frames of a batch having one shape.
        workers: Processes that decode; 0 decodes in a thread of this process. The batches are the same bytes for
            any number.
        device: Where the frames will be used; those for CUDA come in page-locked memory.

    Yields:
        The indices of a batch, and its frames, uint8 (B, C, h, w).

    Raises:
        InputError: See `FrameDataset`.
        PipelineError: A worker process was killed.
    """
    if workers:
        # frames in memory are not sent to the workers, whose caches end with them
        absent = [batch for batch in batches if not dataset.holds(batch)]
        loaded = _from_workers(dataset, absent, min(workers, len(absent)), device) if absent else iter(())
        waiting = {tuple(batch) for batch in absent}
        for batch in batches:
            if tuple(batch) in waiting:
                frames = next(loaded)
                for index, frame in zip(batch, frames, strict=True):
                    dataset.keep(index, frame)
            else:
                frames = _stack(dataset, batch, device)
            yield batch, frames
        return
    pool = ThreadPoolExecutor(1)
    try:
        ahead = pool.submit(_stack, dataset, batches[0], device) if batches else None
        for position, batch in enumerate(batches):
            assert ahead is not None
            frames = ahead.result()
            if position + 1 < len(batches):
                ahead = pool.submit(_stack, dataset, batches[position + 1], device)
            yield batch, frames
    finally:
        pool.shutdown(cancel_futures=True)


def make_loader(
    dataset: FrameDataset, *, workers: int, device: torch.device
) -> Callable[[list[list[int]]], Iterator[Batch]]:
    """`load_batches` as a function of the batches alone."""
    return partial(load_batches, dataset, workers=workers, device=device)


class _Fetched(Dataset["torch.Tensor | PipelineError"]):
    """Gives errors back as values: as exceptions they would reach the user with a worker's traceback."""

    def __init__(self, dataset: FrameDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> torch.Tensor | PipelineError:
        try:
            return self.dataset[index]
        except PipelineError as error:
            return error


def _from_workers(
    dataset: FrameDataset, batches: list[list[int]], workers: int, device: torch.device
) -> Iterator[torch.Tensor]:
    loader = DataLoader(
        _Fetched(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_interrupt,
        multiprocessing_context=_worker_context(),
        persistent_workers=False,
        pin_memory=device.type == "cuda",  # in a thread of this process
    )
    try:
        for frames in loader:
            if isinstance(frames, PipelineError):
                raise frames
            yield frames
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise PipelineError(
            f"run.workers {workers}: a process that decodes images was killed ({str(error).splitlines()[0]}); memory "
            "or /dev/shm may be too small: use fewer workers, or 0 to decode in the main process"
        ) from None


def _worker_context() -> multiprocessing.context.BaseContext:
    # not fork: this process has threads, whose locks a forked child would inherit for ever
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once, not by each worker of each epoch
    return context


def _stack(dataset: FrameDataset, batch: list[int], device: torch.device) -> torch.Tensor:
    return lock_pages(device, torch.stack([dataset[index] for index in batch]))  # (B, C, h, w)


def _collate(frames: list[torch.Tensor | PipelineError]) -> torch.Tensor | PipelineError:
    errors = [frame for frame in frames if isinstance(frame, PipelineError)]
    tensors = [frame for frame in frames if isinstance(frame, torch.Tensor)]
    if errors:
        return errors[0]
    batch = torch.stack(tensors)  # (B, C, h, w)
    worker = get_worker_info()
    if worker is None:
        return batch
    try:
        # here, where it can be told: the thread that sends batches would drop one that does not fit, and all would wait
        return batch.share_memory_()
    except RuntimeError as error:
        return PipelineError(
            f"run.workers {worker.num_workers}: a batch of {batch.nbytes} bytes does not fit into shared memory "
            f"({str(error).splitlines()[0]}); enlarge /dev/shm, or use workers 0 to decode in the main process"
        )


def _ignore_interrupt(worker: int) -> None:
    # Ctrl-C reaches the whole process group; whether to stop, and when, is for the main process to say
    signal.signal(signal.SIGINT, signal.SIG_IGN)
