"""How far a long command is, with its rate and the time that is left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from pipeline.runtime.logs import get_logger

Advance = Callable[[int], None]
Clock = Callable[[], float]

log = get_logger("progress")
EVERY = 30.0  # seconds between two lines


@contextlib.contextmanager
def track(total: int, what: str = "images", clock: Clock = time.monotonic) -> Iterator[Advance]:
    """Show on standard error how far the block is: a bar on a terminal, else a line of the log about every 30 s.

    Args:
        total: Number of steps.
        what: What is counted.
        clock: Seconds.

    Yields:
        A function that takes how many steps were done since.
    """
    with _bar(total, what, clock) if sys.stderr.isatty() else _lines(total, what, clock) as advance:
        yield advance


@contextlib.contextmanager
def _bar(total: int, what: str, clock: Clock) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} {what}/s" if task.speed else "")

    columns = (BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), get_time=clock) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(bar, steps)


@contextlib.contextmanager
def _lines(total: int, what: str, clock: Clock) -> Iterator[Advance]:
    started = told = clock()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, told
        done += steps
        now = clock()
        if now - told < EVERY or not 0 < done < total:  # the caller tells the end
            return
        told = now
        rate = done / (now - started)
        left = timedelta(seconds=round((total - done) / rate))
        log.info("%d of %d %s, %.2f %s/s, %s left", done, total, what, rate, what, left)

    yield advance
