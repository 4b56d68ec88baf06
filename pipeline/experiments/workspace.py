"""Git and DVC of the project's folder: what changed, which experiments there are, and running one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from pipeline.errors import InputError
from pipeline.yaml_reader import read_yaml

WRITTEN_BY_DVC = ("params.yaml", "dvc.lock", "metrics.json")  # tracked files that a run in the workspace changes
_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38,62})/(.+)")
_DONE = re.compile(r"fs4\.(\w+): done: .*; ([\d.]+) s, peak memory")
_FAILED = re.compile(r"failed to reproduce '([^']+)'")


@dataclass(frozen=True)
class Experiment:
    """A finished DVC experiment: its name, the commit that it started from, its reference and its own commit."""

    name: str
    commit: str
    reference: str
    revision: str


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        seconds: Of the stages that ran and finished.
        failed: The stage that failed; empty if none did or DVC did not say.
        code: Exit code of DVC.
        stopped_by: Signal that was passed on, or 0.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ""
    code: int = 0
    stopped_by: int = 0


def current_commit() -> str:
    """The commit that the folder stands on."""
    return _git("rev-parse", "HEAD").strip()


def changed_files(spared: Path) -> list[str]:
    """Tracked files that differ from the commit, but for those below one folder."""
    names = _git("diff", "--name-only", "-z", "HEAD").split("\0")
    return [name for name in names if name and not Path(name).is_relative_to(spared)]


def list_experiments() -> list[Experiment]:
    """All experiments, of whatever commit."""
    found = []
    for line in _git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines():
        reference, revision = line.split(" ")
        if match := _EXPERIMENT.fullmatch(reference):
            found.append(Experiment(match[3], match[1] + match[2], reference, revision))
    return found


def read_experiment_params(experiment: Experiment) -> Any:
    """The `params.yaml` of an experiment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text(_git("show", f"{experiment.revision}:params.yaml"), "utf-8")
        return read_yaml(path)


def remove_experiments(experiments: Sequence[Experiment]) -> None:
    """Remove experiments; by reference, because DVC takes a name for the one of the current commit."""
    if experiments:
        _call("dvc", "exp", "remove", *(experiment.reference for experiment in experiments))


@contextlib.contextmanager
def restored_workspace() -> Iterator[None]:
    """Bring the files that DVC changes back to their committed state, however the block ends."""
    try:
        yield
    finally:
        tracked = _git("ls-tree", "--name-only", "-z", "HEAD", *WRITTEN_BY_DVC).split("\0")
        _git("checkout", "--quiet", "HEAD", "--", *filter(None, tracked))


def run_experiment(name: str, flags: Sequence[str], screen: TextIO) -> Outcome:
    """Run the graph as an experiment in the workspace, and wait for its end also after a signal.

    DVC is sent SIGINT instead of whatever came: it then lets the stage save its work, ends it and tidies git up, which
    it does not do on SIGTERM.

    Args:
        name: Of the experiment.
        flags: Arguments of `dvc exp run`.
        screen: Gets everything that DVC and the stages print.
    """
    outcome = Outcome()
    process: subprocess.Popen[str] | None = None

    def pass_on(signum: int, frame: FrameType | None) -> None:
        outcome.stopped_by = signum
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)

    previous = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        with subprocess.Popen(
            ["dvc", "exp", "run", "--name", name, *flags],
            env=stage_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=0,  # a key press reaches us alone, so that the run gets every signal once
        ) as process:
            if outcome.stopped_by:
                os.killpg(process.pid, signal.SIGINT)
            assert process.stdout
            for line in process.stdout:
                screen.write(line)
                screen.flush()
                if match := _DONE.search(line):
                    outcome.seconds[match[1]] = float(match[2])
                if match := _FAILED.search(line):
                    outcome.failed = match[1]
        outcome.code = process.returncode
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    return outcome


def _git(*arguments: str) -> str:
    return _call("git", *arguments)


def _call(*command: str) -> str:
    try:
        ended = subprocess.run(command, env=stage_environment(), capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise InputError(f"{command[0]}: not found; activate the environment, or install it") from None
    if ended.returncode:
        told = (ended.stderr or ended.stdout).strip().splitlines() or [f"exit code {ended.returncode}"]
        raise InputError(f"`{' '.join(command[:3])}` failed in {Path.cwd()}: {told[-1]}")
    return ended.stdout


def stage_environment() -> dict[str, str]:
    """Ours, with this Python's programs first: stages are started as `python`."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
