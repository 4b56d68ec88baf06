import sys
import time

import numpy as np
import pytest

from benchmarks.measuring import Row, peak_memory, time_calls


@pytest.mark.parametrize(
    ("ratio", "reach", "met"),
    [
        (0.91, "1 ± 0.1", True),
        (1.09, "1 ± 0.1", True),
        (0.89, "1 ± 0.1", False),
        (1.11, "1 ± 0.1", False),
        (0.9, ">= 0.85", True),
        (0.8, ">= 0.85", False),
        (2.0, "<= 2", True),
        (2.1, "<= 2", False),
        (1.0, "", None),
    ],
)
def test_a_row_knows_whether_it_reaches_its_target(ratio: float, reach: str, met: bool | None) -> None:
    assert Row("a", "b", 1.0, 1.0, "s", ratio, reach).met is met


def test_calls_are_timed_in_turns_after_one_to_warm_up() -> None:
    made = []
    seconds = time_calls({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, repeats=2)
    assert "".join(made) == "ababab"
    assert seconds.keys() == {"a", "b"}
    assert min(seconds.values()) >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_what_a_call_held_at_its_peak() -> None:
    def hold() -> None:
        held = np.ones(20_000_000)
        time.sleep(0.3)  # so that it is looked at, however busy the machine
        assert held[0] == 1

    for _ in range(2):  # also where an earlier call has freed as much
        assert 1.5e8 < peak_memory(hold) < 2e8
    assert peak_memory(lambda: None) < 5e7
