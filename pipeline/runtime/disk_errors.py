"""What to tell of a disk that is full or cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # only writing meets these
_REFUSED = (errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def explain_disk_errors(out: Path) -> Iterator[None]:
    """Turn such errors of a block into ones that name the place and the space that is free there.

    Args:
        out: The folder that the block builds.

    Raises:
        InputError: A disk is full, or a place cannot be written; others than `out`, such as a checkpoint on another
            disk, are named themselves.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (*_FULL, *_REFUSED):
            raise explained(error, out) from error
        raise


def explained(error: OSError, out: Path) -> InputError:
    """The same as an error for the user, of any kind."""
    place = _find_place(error, out)
    folder = place.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    problem = os.strerror(error.errno or 0)  # Arrow puts more words into `error.strerror`
    failed = "written" if place == out or error.errno in _FULL else "read or written"
    return InputError(
        f"{place}: cannot be {failed} ({problem}, {free / 1e6:.0f} MB free); free some space or make the folder "
        "writable, then run again: what was finished before is kept"
    )


def _find_place(error: OSError, out: Path) -> Path:
    """A file elsewhere, if the error names one; else the folder under construction."""
    if not isinstance(error.filename, str):
        return out
    place = Path(error.filename)
    of_out = place == out or place in out.parents or out in place.parents
    return out if of_out or f"/.{out.name}." in f"/{place.as_posix()}" else place
