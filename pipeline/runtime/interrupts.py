"""SIGINT and SIGTERM: at once by default, at the next safe point where a stage asks for it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from pipeline.runtime.distributed import Ranks


class Interrupted(BaseException):
    """The user or the system asked the stage to stop; what it finished is kept and the next run goes on from there."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopSignal:
    """Turns SIGINT and SIGTERM into `Interrupted`.

    Inside `deferred()` a first signal is only remembered, for `check()` to raise at a safe point; a second one
    is obeyed at once.
    """

    def __init__(self) -> None:
        self._pending: int | None = None
        self._deferring = False

    def install(self) -> None:
        """Take over both signals for the main thread."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._receive)

    def release(self) -> None:
        """Let both signals end the process, as they do by default: nothing is left to be kept."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)

    @property
    def requested(self) -> bool:
        """Whether a signal waits for the next safe point."""
        return self._pending is not None

    def share(self, ranks: Ranks) -> bool:
        """Whether a signal waits in any of several processes, which then waits in all; they must ask together."""
        if signum := ranks.largest(self._pending or 0):
            self._pending = signum
        return bool(signum)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold signals back until `check()` or the end of the block."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        self.check()

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self._pending is not None:
            raise Interrupted(self._pending)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if not self._deferring or self._pending is not None:
            raise Interrupted(signum)
        self._pending = signum
