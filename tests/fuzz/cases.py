"""How many cases are tried, how one is judged, and the count of what came of them."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings

from pipeline.errors import PipelineError

TOTAL = int(os.environ.get("FS4_FUZZ_CASES", "10000"))
# share of the cases by target, cheap ones first
SHARES = {
    "params": 17,
    "masks": 3,
    "yaml": 12,
    "classes": 16,
    "images": 14,
    "bands": 5,
    "tables": 10,
    "shards": 5,
    "weights": 3,
    "foreign": 1,
    "checkpoints": 3,
    "manifests": 4,
    "names": 2,
    "score": 2,
    "exported": 2,
    "sidecars": 1,
}
HUNG = 60  # seconds for one case, a thousand times more than it takes
LONGEST = 5000  # characters of a message
OUTCOMES: dict[str, Counter[str]] = {target: Counter() for target in SHARES}


def tried(target: str) -> settings:
    """The settings for a target: its share of the cases, the same ones in each run unless their number was chosen."""
    return settings(
        max_examples=max(1, TOTAL * SHARES[target] // 100),
        derandomize="FS4_FUZZ_CASES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def judge(target: str, call: Callable[[], Any], *, names: str = "") -> Any:
    """Make a call that must succeed, or fail with one of the project's own errors.

    Args:
        target: What is counted.
        call: The call.
        names: What a message must hold, such as the file.

    Returns:
        The call's value, or None where it was refused.
    """
    try:
        with _bounded():
            value = call()
    except PipelineError as error:
        text = str(error)
        assert text.strip()
        assert len(text) < LONGEST
        assert names in text, text
        assert error.exit_code in (1, 2, 3)
        OUTCOMES[target]["refused"] += 1
        return None
    OUTCOMES[target]["accepted"] += 1
    return value


@contextmanager
def _bounded() -> Iterator[None]:
    def hung(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"nothing came of it in {HUNG} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, HUNG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def write_summary(path: Path) -> None:
    """Keep what came of all cases."""
    found = {target: dict(sorted(outcome.items())) for target, outcome in OUTCOMES.items() if outcome}
    total = sum(sum(outcome.values()) for outcome in found.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cases": total, "targets": found}, indent=2, sort_keys=True) + "\n", "utf-8")
