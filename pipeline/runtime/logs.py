"""One line per event on standard error, without time stamps in anything that is kept."""

from __future__ import annotations

import logging
import sys


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
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(name)s{helper}: %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.propagate = False
    root.setLevel(logging.ERROR if rank else level)
