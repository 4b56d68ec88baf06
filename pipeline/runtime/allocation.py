"""How the process asks the system for memory."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**31 - 1  # bytes at the end of the heap that are not given back; the largest number that mallopt takes
MAPPED = 32 * 2**20  # larger blocks are mapped, and unmapped when freed; glibc allows no larger number


def keep_freed_memory() -> None:
    """Keep freed memory for the next step instead of giving it back to the system, which changes nothing but the time.

    A step of training frees some hundred megabytes and asks for them again. If they went back, each of their pages
    would come as a page fault: 3 to 7 % of the time. Does nothing without glibc, or where its environment variables
    `MALLOC_...` say what to do.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, MAPPED)
        mallopt(M_TRIM_THRESHOLD, KEPT)
