"""Kills runs at random moments and repeats them: `python -m tests.faults.kill_matrix --kills 60 --out FILE`.

Each case takes a copy of a finished tiny run, lets `dvc repro` make one stage anew, and kills either the stage's
process or DVC itself at a seeded random moment. Then `dvc repro` must end with the same bytes as the run that was never
disturbed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from tests.graph.project import OUTS, STAGES, Project, build_tiny, wait_until

DVC_SHARE = 0.2  # of the kills that hit DVC, whose stage goes on as an orphan
LATEST = 0.95  # of a stage's time: later, a kill would mostly come too late


@dataclass(frozen=True)
class Kill:
    """What is killed, and when.

    Attributes:
        stage: The stage that runs.
        dvc: Whether DVC is killed instead of the stage.
        moment: Share of the stage's usual time, 0..1.
    """

    stage: str
    dvc: bool
    moment: float


def draw_kills(count: int, seed: int) -> list[Kill]:
    """Kills that go round over all stages, at random moments."""
    rng = np.random.default_rng(seed)
    return [
        Kill(STAGES[number % len(STAGES)], bool(rng.random() < DVC_SHARE), float(rng.random() * LATEST))
        for number in range(count)
    ]


def holder(project: Project, stage: str) -> int | None:
    """The process that writes a stage's output, if there is one."""
    out = OUTS[STAGES.index(stage)]
    with contextlib.suppress(OSError, ValueError):
        return int((project.root / f"data/.{out}.lock.pid").read_text())
    return None


def prepare_copy(built: Project, root: Path, stage: str) -> Project:
    """A copy in which one stage has to run again, and cannot be restored from the cache of runs."""
    project = built.duplicate(root)
    shutil.rmtree(project.root / ".dvc/cache/runs", ignore_errors=True)
    shutil.rmtree(project.root / "data" / OUTS[STAGES.index(stage)])
    lock = project.root / "dvc.lock"
    done = yaml.safe_load(lock.read_text("utf-8"))
    del done["stages"][stage]
    lock.unlink()
    lock.write_text(yaml.safe_dump(done, sort_keys=False), "utf-8")
    # an orphan is waited for; group `run` is no reason to run anything again
    project.set_params({"run": {"lock_timeout": 600}})
    return project


def time_stages(built: Project, folder: Path) -> dict[str, float]:
    """Seconds that each stage holds its output, in a run that is not disturbed."""
    seconds = {}
    for stage in STAGES:
        project = prepare_copy(built, folder / "timed", stage)
        with project.start("dvc", "repro", "--single-item", stage) as process:
            wait_until(lambda: holder(project, stage), process)  # noqa: B023
            started = time.monotonic()
            while holder(project, stage) is not None:
                time.sleep(0.005)
            seconds[stage] = time.monotonic() - started
            process.wait()
        assert project.digests() == built.digests()
        shutil.rmtree(project.root)
    return seconds


@dataclass(frozen=True)
class Case:
    """What came of a kill.

    Attributes:
        met: Whether the stage was at work.
        same: Whether the end is the same, with nothing left over.
    """

    met: bool
    same: bool


def run_case(built: Project, root: Path, kill: Kill, seconds: float) -> Case:
    """Kill a run in a copy of `built`, repeat it, and compare; `seconds` is what the stage usually takes."""
    project = prepare_copy(built, root, kill.stage)
    with project.start("dvc", "repro") as process:
        wait_until(lambda: holder(project, kill.stage), process)
        time.sleep(kill.moment * seconds)
        writer = holder(project, kill.stage)
        if kill.dvc:
            process.kill()
        elif writer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(writer, signal.SIGKILL)
        process.wait()
        # inside, because an orphan still writes to this end's pipe
        project.dvc("repro")
    met = writer is not None
    same = project.digests() == built.digests()
    same &= (project.root / "metrics.json").read_bytes() == (built.root / "metrics.json").read_bytes()
    same &= not list(project.root.glob("data/.*.tmp-*"))
    shutil.rmtree(project.root)
    return Case(met, same)


def run_matrix(built: Project, folder: Path, kills: list[Kill]) -> dict[str, object]:
    """All cases.

    Returns:
        How often what was killed, and the cases that ended differently.
    """
    seconds = time_stages(built, folder)
    hit: Counter[str] = Counter()
    late, different = 0, []
    for number, kill in enumerate(kills):
        case = run_case(built, folder / f"killed-{number}", kill, seconds[kill.stage])
        if case.met:
            hit[f"dvc in {kill.stage}" if kill.dvc else kill.stage] += 1
        else:
            late += 1
        if not case.same:
            different.append({"number": number, "stage": kill.stage, "dvc": kill.dvc, "moment": kill.moment})
    return {"kills": len(kills), "killed": dict(sorted(hit.items())), "came_too_late": late, "different": different}


def main() -> None:
    """Run the matrix and keep its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_matrix(build_tiny(Path(folder)), Path(folder), draw_kills(given.kills, given.seed))
    text = json.dumps({**found, "seed": given.seed}, indent=2, sort_keys=True) + "\n"
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, "utf-8")
    print(text, end="")
    if found["different"]:
        raise SystemExit("some runs ended differently")


if __name__ == "__main__":
    main()
