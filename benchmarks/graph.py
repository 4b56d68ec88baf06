"""Times what the graph costs beside the work: a run that has nothing to do, and the start of a stage."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import Row

REPEATS = 2


def measure_rows() -> list[Row]:
    """Processor seconds of whole processes; `dvc repro` only where the graph is up to date."""
    rows = [
        Row(f"start of stage {stage} {kind} torch", "–", seconds, 0.0, "s", seconds, f"<= {limit}")
        for stage, kind, limit in (("cluster", "without", 2), ("report", "without", 2), ("train", "with", 5))
        for seconds in [_processor_seconds(sys.executable, "-c", f"import stages.{stage}")]
    ]
    if Path("data/report/manifest.json").exists():
        dvc = str(Path(sys.executable).with_name("dvc"))
        seconds = _processor_seconds(dvc, "repro")
        rows.insert(0, Row("`dvc repro` with nothing to do", "–", seconds, 0.0, "s", seconds, "<= 2.5"))
    return rows


def _processor_seconds(*command: str) -> float:
    """Of the fastest of some runs of a command, its children included."""
    taken = []
    for _ in range(REPEATS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)
