"""Several processes share the stages: to the same bytes, or where they train along the same course."""

import contextlib
import csv
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.graph.project import SECONDS, Project, wait_until

pytestmark = pytest.mark.graph


@pytest.mark.parametrize(
    ("stage", "out"), [("extract", "features"), ("cluster", "pseudo_labels"), ("evaluate", "evaluation")]
)
def test_two_processes_equal_one(project: Project, built: Project, stage: str, out: str) -> None:
    project.set_params({"run": {"processes": 2}})
    shutil.rmtree(project.root / "data" / out)
    assert project.stage(stage).count("done: ") == 1
    assert project.digests(out) == built.digests(out)
    assert "up to date" in project.dvc("status")


def test_two_processes_of_torchrun_equal_one(project: Project, built: Project) -> None:
    shutil.rmtree(project.root / "data/pseudo_labels")
    output = project.run("torchrun", "--standalone", "--nproc-per-node=2", "-m", "stages.cluster")
    assert output.count("done: ") == 1
    assert project.digests("pseudo_labels") == built.digests("pseudo_labels")


def test_two_processes_cluster_like_one_after_one_was_killed(project: Project) -> None:
    project.set_params({"pgg": {"restarts": 1000}})  # what is left after the first level takes a while
    project.stage("cluster")
    alone = project.digests("pseudo_labels")
    shutil.rmtree(project.root / "data/pseudo_labels")

    project.set_params({"run": {"processes": 2}})
    with project.start_stage("cluster") as process:
        wait_until(lambda: len(ranks_of(process.pid)) == 2, process)
        ranks = ranks_of(process.pid)
        wait_until(lambda: list(project.root.glob(".fs4/scratch/cluster/*/level=1.npz")), process)
        ranks[1].kill()
        output = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGKILL, output
    assert not psutil.wait_procs(ranks.values(), timeout=SECONDS)[1], "a process outlived the run"
    assert not (project.root / "data/pseudo_labels").exists()

    output = project.stage("cluster")
    assert "level 1: going on from its finished k-means" in output
    assert project.digests("pseudo_labels") == alone


@pytest.mark.parametrize(("stage", "out"), [("pretrain", "backbone"), ("train", "segmenter")])
def test_two_processes_train_like_one_and_go_on_after_one_was_killed(
    project: Project, built: Project, stage: str, out: str
) -> None:
    # sums in another order change the last bits, k-means and AdamW make more of it; the tests of the steps are strict
    project.set_params({"run": {"processes": 2, "checkpoint_steps": 1}})
    shutil.rmtree(project.root / "data" / out)
    with project.start_stage(stage) as process:
        wait_until(lambda: list((project.root / ".fs4/scratch" / stage).glob("*/checkpoint-*.pt")), process)
        ranks = ranks_of(process.pid)
        ranks[1].kill()
        output = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGKILL, output
    assert not psutil.wait_procs(ranks.values(), timeout=SECONDS)[1], "a process outlived the run"
    assert "process 1 of 2 was killed by SIGKILL; run again" in output
    assert not (project.root / "data" / out).exists()

    output = project.stage(stage)
    assert "going on from checkpoint-" in output
    assert output.count("done: ") == 1
    resumed = project.digests(out)
    for one, two in zip(curves_of(built.root / "data" / out), curves_of(project.root / "data" / out), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.01)

    shutil.rmtree(project.root / "data" / out)
    project.stage(stage)
    assert project.digests(out) == resumed


def ranks_of(launcher: int) -> dict[int, psutil.Process]:
    """The processes that a stage started, by their number."""
    found = {}
    for child in psutil.Process(launcher).children():
        with contextlib.suppress(psutil.NoSuchProcess, KeyError):
            found[int(child.environ()["RANK"])] = child
    return found


def curves_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
