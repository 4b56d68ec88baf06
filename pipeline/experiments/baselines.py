"""Runs baselines one after another as DVC experiments, and keeps the figures of each as soon as it is done."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError, TrainingError
from pipeline.experiments.plan import GRAPH, Run, is_baseline, plan_runs
from pipeline.experiments.workspace import (
    WRITTEN_BY_DVC,
    Experiment,
    Outcome,
    changed_files,
    current_commit,
    list_experiments,
    read_experiment_params,
    remove_experiments,
    restored_workspace,
    run_experiment,
)
from pipeline.report.results import EVALUATION, collect_record, write_record
from pipeline.runtime.artifacts import MANIFEST, create_artifact, open_artifact, replace_file
from pipeline.runtime.digests import file_digest
from pipeline.runtime.interrupts import Interrupted
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger
from pipeline.yaml_reader import read_yaml

COMPARED = Path("data/compare")
SECONDS = Path("data/.seconds.json")  # of every output that was computed here, by its digest
LOCK = Path("data/.baselines.lock")
log = get_logger("baselines")


def run_baselines(
    root: str, presets: Sequence[str], seeds: str, only: Sequence[str], *, force: bool, results: Path
) -> list[Run]:
    """Run what has no record yet; for the arguments see `plan_runs`.

    Args:
        root: See `plan_runs`, likewise the next three.
        presets: See `plan_runs`.
        seeds: See `plan_runs`.
        only: See `plan_runs`.
        force: Make all experiments again; what DVC has in its cache is not computed again.
        results: Where records lie.

    Returns:
        All runs that were asked for, the recorded ones included.

    Raises:
        InputError: Tracked files are changed, the experiments would be of different commits or data, or a run failed.
        TrainingError: All other runs are done, but some trainings failed.
        Interrupted: A signal came; what is finished is kept, and the next call goes on from there.
    """
    with hold(LOCK, "this folder's set of baselines", 0.0):
        _check_unchanged(results)
        commit = current_commit()
        runs = plan_runs(root, presets, seeds, only)
        waiting = [run for run in runs if force or not run.is_recorded(results)]
        for run in runs:
            if run not in waiting:
                log.info("%s: already there (%s)", run.name, run.record(results))
        if waiting:
            _clear_the_way(waiting, commit)
        failed = []
        for number, run in enumerate(waiting, 1):
            log.info("%s: run %d of %d", run.name, number, len(waiting))
            _check_unchanged(results)
            if current_commit() != commit:
                raise InputError(f"the commit changed from {commit[:7]} meanwhile; start again to use the new one")
            if not _run(run, commit, results):
                failed.append(run.name)
    if failed:
        raise TrainingError(
            f"the training of {', '.join(failed)} failed, for the reason above; all other runs are done"
        )
    return runs


def _run(run: Run, commit: str, results: Path) -> bool:
    """Run and record one baseline; False if its training failed."""
    with restored_workspace():
        outcome = run_experiment(run.name, run.flags, sys.stdout)
        seconds = _add_known_seconds(outcome)
        if not outcome.code:
            _keep(run, commit, seconds, results)
        if outcome.stopped_by:
            raise Interrupted(outcome.stopped_by)
        if outcome.code and outcome.failed != "train":
            raise InputError(f"{run.name}: the run failed, for the reason above; mend it and start again")
    return not outcome.code


def _keep(run: Run, commit: str, seconds: dict[str, float], results: Path) -> None:
    _keep_gallery(COMPARED / run.data / run.name)
    record = collect_record(run.command)
    write_record(
        run.record(results),
        record
        | {
            "name": run.name,
            "preset": run.preset,
            "seed": run.seed,
            "data": run.data,
            "split": record["protocol"].get("split"),
            "seconds": seconds,
            "commit": commit,
            "digests": run.digests,
        },
    )
    log.info("%s: recorded in %s", run.name, run.record(results))


def _keep_gallery(place: Path) -> None:
    """Copy the pictures of the evaluation, which the next run replaces."""
    evaluation = open_artifact(EVALUATION)
    with create_artifact(place) as writer:
        for path in evaluation.files("gallery/*"):
            shutil.copyfile(path, writer.path / path.name)


def _add_known_seconds(outcome: Outcome) -> dict[str, float]:
    """Seconds of all stages: measured just now, or when the same output was first computed here."""
    known: dict[str, float] = json.loads(SECONDS.read_text("utf-8")) if SECONDS.exists() else {}
    seconds = {}
    for stage, entry in read_yaml(GRAPH)["stages"].items():
        manifest = Path(next((out for out in entry.get("outs", []) if isinstance(out, str)), ""), MANIFEST)
        if not manifest.is_file():
            continue
        key = f"{stage} {file_digest(manifest)[:16]}"
        if stage in outcome.seconds:
            known[key] = outcome.seconds[stage]
        if key in known:
            seconds[stage] = known[key]
    replace_file(SECONDS, json.dumps(known, indent=2, sort_keys=True).encode())
    return seconds


def _check_unchanged(results: Path) -> None:
    changed = changed_files(results)
    if not changed:
        return
    mend = "commit or stash the changes"
    if set(changed) <= set(WRITTEN_BY_DVC):
        mend = f"undo an earlier run's changes with `git checkout {' '.join(changed)}`, or commit them"
    raise InputError(f"{', '.join(changed[:3])}: changed since the last commit, which experiments start from; {mend}")


def _clear_the_way(waiting: Sequence[Run], commit: str) -> None:
    """Remove older experiments of the names to be run; refuse if others would then stand beside unlike ones."""
    names = {run.name for run in waiting}
    old = [experiment for experiment in list_experiments() if is_baseline(experiment.name)]
    staying = [experiment for experiment in old if experiment.name not in names]
    if elsewhere := [experiment for experiment in staying if experiment.commit != commit]:
        start = elsewhere[0].commit[:7]
        raise InputError(
            f"{_listed(elsewhere)}: made from commit {start}, but this is {commit[:7]}, and figures of different code "
            f"would be compared; {_removal(elsewhere, old)}, or go back with `git checkout {start}`"
        )
    if unlike := [e for e in staying if read_experiment_params(e).get("data") != waiting[0].params]:
        raise InputError(f"{_listed(unlike)}: made from other data; {_removal(unlike, old)}")
    remove_experiments([experiment for experiment in old if experiment.name in names])


def _listed(experiments: Sequence[Experiment]) -> str:
    plural = "s" if len(experiments) > 1 else ""
    return f"experiment{plural} {', '.join(experiment.name for experiment in experiments)}"


def _removal(experiments: Sequence[Experiment], all_: Sequence[Experiment]) -> str:
    """How to remove them; DVC takes a name that several commits have for the current one's."""
    names = [experiment.name for experiment in all_]
    told = [e.reference if names.count(e.name) > 1 else e.name for e in experiments]
    return f"remove them with `dvc exp remove {shlex.join(told)}` (their records stay)"
