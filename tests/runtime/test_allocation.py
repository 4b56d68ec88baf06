import platform
import subprocess
import sys

import pytest

# each round frees more than glibc keeps by default, so that every page comes anew in the next
ROUNDS = """
import resource, sys
from pipeline.runtime.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytes(20 * 2**20) for _ in range(8)]
    blocks = [bytearray(block) for block in blocks]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(4)][-1])
"""


def count_faults(how: str, **environment: str) -> int:
    command = [sys.executable, "-c", ROUNDS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_not_fetched_again() -> None:
    plain, kept = count_faults("plain"), count_faults("keep")
    assert plain > 1000
    assert kept < plain / 100
    assert count_faults("keep", MALLOC_ARENA_MAX="2") > 1000  # who sets such a variable knows better
