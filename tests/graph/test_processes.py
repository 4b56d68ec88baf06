"""Several processes give the bytes that one gives, in the stages that they share."""

import shutil

import pytest

from tests.graph.project import Project

pytestmark = pytest.mark.graph


@pytest.mark.parametrize(("stage", "out"), [("extract", "features"), ("evaluate", "evaluation")])
def test_two_processes_equal_one(project: Project, built: Project, stage: str, out: str) -> None:
    project.set_params({"run": {"processes": 2}})
    shutil.rmtree(project.root / "data" / out)
    assert project.stage(stage).count("done: ") == 1
    assert project.digests(out) == built.digests(out)
    assert "up to date" in project.dvc("status")
