import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.cases import write_summary

MEMORY = 6 * 2**30  # bytes beyond what is mapped: what a hostile file may cost at most


@pytest.fixture(scope="session", autouse=True)
def _bounded_memory() -> Iterator[None]:
    """A file that asks for absurd memory must be refused before it gets it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(scope="session", autouse=True)
def _summary() -> Iterator[None]:
    """Where `FS4_FUZZ_SUMMARY` names a file, what came of all cases is kept there."""
    yield
    if path := os.environ.get("FS4_FUZZ_SUMMARY"):
        write_summary(Path(path))
