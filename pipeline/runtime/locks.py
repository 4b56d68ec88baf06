"""One writer per folder: a lock file beside the folder, with the holder's process id for the message."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import InputError
from pipeline.runtime.logs import get_logger

log = get_logger("locks")


@contextlib.contextmanager
def hold(path: Path, what: str, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock; the operating system frees it when the process ends, however it ends.

    Args:
        path: The lock file; its holder's process id stands in `path` + ".pid" meanwhile.
        what: What is being protected, for the message.
        timeout: Seconds to wait for a process that is about to end.

    Raises:
        InputError: Another process still holds the lock after `timeout` seconds; the message names it. Or the lock
            file cannot be written.
    """
    holder = path.with_name(path.name + ".pid")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s is held by process %s; waiting up to %g s", what, _read_pid(holder), timeout)
            lock.acquire(timeout=timeout)
    except Timeout:
        pid = _read_pid(holder)
        raise InputError(
            f"{what} is being written by process {pid}; wait until it ends, or stop it with `kill {pid}` "
            "(it keeps what it has finished)"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); make the folder {path.parent} writable, then run again"
        ) from None
    try:
        with contextlib.suppress(OSError):  # a full disk is for the writer to explain
            holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read_pid(holder: Path) -> str:
    with contextlib.suppress(OSError):
        return holder.read_text().strip() or "unknown"
    return "unknown"
