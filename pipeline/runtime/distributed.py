"""Several processes that run one stage together, one of them per device, with torch's own launcher and collectives.

The first process holds the locks and writes; the others compute. In a single process everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

from pipeline.errors import LostProcessError
from pipeline.runtime.logs import get_logger

log = get_logger("distributed")
T = TypeVar("T")
# For a host that falls silent; a process that dies is noticed at once. The others wait as long for one that clusters.
TIMEOUT = timedelta(hours=1)
LOSS = ("gloo", "Connection closed by peer", "Connection reset by peer")  # in errors that are of no class of their own


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that run a stage together.

    Attributes:
        rank: Its number, from 0.
        world: How many there are, on all hosts.
        local_rank: Its number on this host.
        local_world: How many there are on this host.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there are no others, and so nothing to wait for."""
        return self.world == 1

    def own(self, items: Sequence[T]) -> list[T]:
        """Every `world`-th item, beginning with number `rank`."""
        return list(items[self.rank :: self.world])

    def gather_in_turn(self, own: Iterable[T], total: int) -> Iterator[T]:
        """Bring the results for all items to the first process, one of each process at a time.

        Args:
            own: Results for `own(items)`, computed as they are asked for.
            total: Number of all items.

        Yields:
            In the first process the results in the order of the items; in the others nothing, but they compute
            meanwhile, and must iterate all the same.

        Raises:
            RuntimeError: Another process ended.
        """
        if self.is_alone:
            yield from own
            return
        from torch import distributed

        results = iter(own)
        for first in range(0, total, self.world):
            result = next(results) if first + self.rank < total else None
            held: list[Any] | None = [None] * self.world if self.is_first else None
            distributed.gather_object(result, held, dst=0)
            yield from islice(held or (), total - first)

    def gather_groups(self, own: Iterable[T], groups: Sequence[Sequence[object]]) -> Iterator[T]:
        """Like `gather_in_turn`, for one result for each member of each group, a whole group at a time."""
        if self.is_alone:
            yield from own
            return
        results = iter(own)
        by_group = (list(islice(results, len(group))) for group in self.own(groups))
        for held in self.gather_in_turn(by_group, len(groups)):
            yield from held

    def gather(self, value: T) -> list[T]:
        """One value of each process, in their order; nothing in others than the first."""
        return list(self.gather_in_turn([value], self.world))

    def broadcast(self, value: T) -> T:
        """The value of the first process; others give anything. Tensors in it must be on the CPU."""
        if self.is_alone:
            return value
        from torch import distributed

        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return bool(self.largest(int(flag)))

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give; none goes on before all have given theirs."""
        if self.is_alone:
            return number
        import torch

        held = torch.tensor(number)
        torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX)
        return int(held)


ALONE = Ranks()


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ  # other launchers leave variables such as RANK as well


def read_ranks() -> Ranks:
    """The place that torchrun gave to this process; alone without torchrun."""
    if not is_launched():
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Ranks(*(int(os.environ[name]) for name in names))


@contextlib.contextmanager
def joined(ranks: Ranks, device: str) -> Iterator[None]:
    """Be connected with the other processes: by gloo for what lies on the CPU, by NCCL for what lies on CUDA devices.

    Args:
        ranks: The place of this process.
        device: `run.device`.

    Raises:
        LostProcessError: In the block another process ended, or did not answer for an hour.
    """
    if ranks.is_alone:
        yield
        return
    import torch
    from torch import distributed

    on_cuda = device != "cpu" and torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        # NCCL connects the devices when they first exchange something, and so not in stages that never do
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=TIMEOUT)
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(sign in str(error) for sign in LOSS):
            raise LostProcessError("another process of this run ended or does not answer") from error
        raise
    # not after an error: the others may wait for this process, and its end wakes them up
    distributed.destroy_process_group()


def launch(module: str, processes: int) -> int:
    """Start a module several times on this host, as `torchrun --standalone --nproc-per-node` does, and supervise it.

    If one process fails, the others are ended.

    Args:
        module: What to run, as in `python -m`; it is given this process's arguments.
        processes: How many times.

    Returns:
        The exit code of the process that failed on its own, the first of several, 128 + n for signal n; 0 if none did.
    """
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes report by themselves
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",  # the host's name need not lead back to it
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *sys.argv[1:])
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        ends = {rank: failure.exitcode for rank, failure in sorted(failed.failures.items())}
        consequences = (LostProcessError.exit_code, -signal.SIGTERM, 128 + signal.SIGTERM)  # of another one's failure
        rank = min(ends, key=lambda rank: (ends[rank] in consequences, ends[rank] == LostProcessError.exit_code, rank))
        code = ends[rank]
        if code < 0:
            log.error(
                "process %d of %d was killed by %s; run again to go on from what is finished",
                rank,
                processes,
                signal.Signals(-code).name,
            )
        return code if code > 0 else 128 - code
    return 0
