"""What all timings share: processor seconds, the peak of anonymous memory, and rows of the table."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow

REPEATS = 3
MEGABYTE = 1e6


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: What is measured.
        against: What it is compared with.
        ours: Its cost, in `unit`.
        other: Theirs; 0 where there is only a limit.
        unit: Of both.
        ratio: The figure that the target is about.
        reach: The target, such as ">= 0.85", "<= 2", "1 ± 0.1"; empty where nothing was promised.
    """

    what: str
    against: str
    ours: float
    other: float
    unit: str
    ratio: float
    reach: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if not self.reach:
            return None
        sign, limit = self.reach.split()[-2:]
        if sign == "±":
            return abs(self.ratio - float(self.reach.split()[0])) <= float(limit)
        return self.ratio >= float(limit) if sign == ">=" else self.ratio <= float(limit)


@dataclass(frozen=True)
class Cost:
    """What a stage costs with a large data set.

    Attributes:
        data: The data set.
        stage: The stage, or all of them.
        hours: On two cores, from measured rates.
        gpu_hours: On one GPU, estimated.
        gigabytes: Of disk, from above.
    """

    data: str
    stage: str
    hours: float
    gpu_hours: float
    gigabytes: float
    met: None = None


def time_calls(calls: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Processor seconds of the fastest of some calls, taken in turns after one of each to warm up.

    Processor time is that of idle cores even where other programs share them.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            taken[name].append(time.process_time() - begin)
    return {name: min(seconds) for name, seconds in taken.items()}


def anonymous_memory() -> float:
    """Bytes of this process that are not pages of files (Linux)."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024.0 * int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon: this needs Linux 4.5 or later")


def peak_memory(call: Callable[[], object]) -> float:
    """Anonymous memory in bytes that a call takes at its peak beyond what was held before; looked at every 2 ms."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # or a call is served from what earlier ones have freed
    pyarrow.default_memory_pool().release_unused()
    before = peak = anonymous_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
        peak = max(peak, anonymous_memory())
    finally:
        done.set()
        watcher.join()
    return peak - before
