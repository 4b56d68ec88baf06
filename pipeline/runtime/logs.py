"""One line per event on standard error, without time stamps in anything that is kept."""

from __future__ import annotations

import logging
import re
import sys

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class PlainFormatter(logging.Formatter):
    """Shows control characters by their numbers: names of files come from anybody, and a terminal obeys them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line per event, or more where the message has them."""
        return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of one stage or room, child of `fs4`."""
    return logging.getLogger(f"fs4.{name}")


def start_logging(level: int = logging.INFO, rank: int = 0) -> None:
    """Send the project's log lines to standard error, once per process.

    Args:
        level: What to show. Processes that only help the first one show their errors and no more.
        rank: Number of this process among those that run a stage together; shown unless it is 0.
    """
    helper = f" [{rank}]" if rank else ""
    root = logging.getLogger("fs4")
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PlainFormatter(f"%(asctime)s %(name)s{helper}: %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.propagate = False
    root.setLevel(logging.ERROR if rank else level)
