"""Several processes share the stages: to the same bytes, or where they train along the same course."""

import csv
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.graph.project import Project, wait_until

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


@pytest.mark.parametrize(("stage", "out"), [("pretrain", "backbone"), ("train", "segmenter")])
def test_two_processes_train_like_one_and_go_on_after_one_was_killed(
    project: Project, built: Project, stage: str, out: str
) -> None:
    # sums in another order change the last bits, k-means and AdamW make more of it; the tests of the steps are strict
    project.set_params({"run": {"processes": 2, "checkpoint_steps": 1}})
    shutil.rmtree(project.root / "data" / out)
    with project.start_stage(stage) as process:
        wait_until(lambda: list((project.root / ".fs4/scratch" / stage).glob("*/checkpoint-*.pt")), process)
        helper = next(child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child, 1))
        helper.kill()
        output = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGKILL, output
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


def is_rank(process: psutil.Process, rank: int) -> bool:
    return process.environ().get("RANK") == str(rank)


def curves_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
