"""How the batch of a step is dealt to several processes, and how what they make of it comes together again.

Each process embeds a contiguous part of the batch. The embeddings are gathered in the order of the images, and every
process computes the loss of the whole batch from them, heads and queues included, so that losses which compare images,
or balance over them, are those of one process. As all processes have the same loss, what flows back through a gather
is the whole gradient of a process's own rows: weights behind the gather have their whole gradient in every process,
those before it only the part of the own images. Both become whole as a mean over the processes, if gradients on their
way back through a gather are multiplied by the number of processes. That is what happens here.

A batch with fewer images than there are processes is not dealt: all of them do the whole of it.

torch's DistributedDataParallel would serve less well. It wants one module with one forward pass, and a step here calls
several networks, not all of them in every epoch; it sorts gradients into buckets anew after its first step, so that a
resumed run would add in another order than one that was not interrupted; and the loss must be known to be finite
before gradients are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import distributed

from pipeline.runtime.distributed import ALONE, Ranks

BUCKET = 2**23  # numbers of a gradient that are exchanged at once: 32 MiB of float32
Load = Callable[[list[list[int]]], Iterator[tuple[list[int], torch.Tensor]]]


class Dealing:
    """The dealing of batches to processes; alone, or where all do the whole batch, its methods change nothing.

    Args:
        ranks: The processes.

    Attributes:
        ranks: The same.
        sizes: Images of each process in the present batch; empty if each has all of them.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.sizes: list[int] = []

    @property
    def is_shared(self) -> bool:
        """Whether each process has a part of the present batch."""
        return bool(self.sizes)

    @property
    def counts_here(self) -> bool:
        """Whether what this process collects counts: of those that all do the whole batch, only the first."""
        return self.is_shared or self.ranks.is_first

    def deal(self, batches: list[list[int]], load: Load) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Load the own part of each batch; until the next one is asked for, it is the present batch.

        Args:
            batches: Indices by batch, the same in all processes.
            load: Turns batches of indices into images (B, ...).

        Yields:
            The own indices and images.
        """
        for batch, loaded in zip(batches, load([self._own(batch) for batch in batches]), strict=True):
            self.sizes = self._sizes(len(batch))
            yield loaded

    def gather(self, rows: torch.Tensor, parts: int = 1) -> torch.Tensor:
        """Bring the rows of all processes together, in the order in which one process would have them.

        Args:
            rows: (parts * B * n, ...) of the own B images: parts, such as views, one after the other, and in each of
                them n rows an image, in the order of the images.
            parts: How many there are.

        Returns:
            The same of all images of the batch; a gradient flows back to the own rows.
        """
        if not self.is_shared:
            return rows
        each = len(rows) // self.sizes[self.ranks.rank] // parts
        return torch.cat(self._gather(rows, [[size * each] * parts for size in self.sizes]))

    def gather_ragged(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same for parts (N_i, ...) that may have any number of rows; each comes back whole."""
        if not self.is_shared:
            return list(parts)
        own = torch.tensor([len(part) for part in parts])
        held = [torch.empty_like(own) for _ in self.sizes]
        distributed.all_gather(held, own)
        return self._gather(torch.cat(list(parts)), [lengths.tolist() for lengths in held])

    def own(self, rows: torch.Tensor) -> torch.Tensor:
        """The own images' part of rows (B, ...), one for each image of the whole batch."""
        return rows.split(self.sizes)[self.ranks.rank] if self.is_shared else rows

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the processes of numbers, of any shape, that each has of its own images."""
        return _Total.apply(values, self.ranks.world) if self.is_shared else values

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over the whole batch of what is the mean over the own images."""
        if not self.is_shared:
            return value
        return self.total(value * (self.sizes[self.ranks.rank] / sum(self.sizes)))

    def average_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their means over the processes, in the order of the weights."""
        if self.ranks.is_alone:
            return
        waiting: list[torch.Tensor] = []
        for weight in weights:
            if weight.grad is not None:
                waiting.append(weight.grad)
            if sum(grad.numel() for grad in waiting) >= BUCKET:
                self._average(waiting)
                waiting = []
        if waiting:
            self._average(waiting)

    def _average(self, grads: list[torch.Tensor]) -> None:
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= self.ranks.world
        for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view(grad.shape))

    def _sizes(self, count: int) -> list[int]:
        """Images of each process in a batch of `count`, the first ones having one more where it does not divide."""
        world = self.ranks.world
        return [count // world + (rank < count % world) for rank in range(world)] if 1 < world <= count else []

    def _own(self, batch: list[int]) -> list[int]:
        if not (sizes := self._sizes(len(batch))):
            return batch
        first = sum(sizes[: self.ranks.rank])
        return batch[first : first + sizes[self.ranks.rank]]

    def _gather(self, rows: torch.Tensor, lengths: list[list[int]]) -> list[torch.Tensor]:
        """Parts of `lengths[rank]` rows each, all in one exchange."""
        totals = [sum(of_rank) for of_rank in lengths]
        held: torch.Tensor = _Gather.apply(rows, totals, self.ranks.rank)
        pieces = held.split([length for of_rank in lengths for length in of_rank])
        parts = len(lengths[0])
        return [torch.cat(pieces[part::parts]) for part in range(parts)]


class _Gather(torch.autograd.Function):
    """Rows (n, ...) of all processes one after the other; back goes the own part, times the number of processes."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, totals: list[int], rank: int) -> torch.Tensor:
        ctx.totals, ctx.rank = totals, rank
        if not any(totals):
            return rows.clone()
        padded = rows.new_zeros(max(totals), *rows.shape[1:])
        padded[: len(rows)] = rows
        held = [torch.empty_like(padded) for _ in totals]
        # as bytes, because the backends do not take all types
        distributed.all_gather([_as_bytes(part) for part in held], _as_bytes(padded))
        return torch.cat([part[:total] for part, total in zip(held, totals, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grads[0].split(ctx.totals)[ctx.rank] * len(ctx.totals), None, None


class _Total(torch.autograd.Function):
    """The sum over the processes; back goes the gradient, times their number."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, world: int) -> torch.Tensor:
        ctx.world = world
        held = values.clone()
        distributed.all_reduce(held)
        return held

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0] * ctx.world, None


def _as_bytes(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1).view(torch.uint8)
