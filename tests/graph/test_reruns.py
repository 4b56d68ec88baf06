"""What runs again, and what does not."""

import pytest

from tests.graph.project import STAGES, Project, stages_restored, stages_run

pytestmark = pytest.mark.graph

OTHER_RUN = {
    "processes": 2,
    "threads": 2,
    "workers": 1,
    "cache_mb": 1,
    "checkpoint_steps": 1,
    "keep_features": False,
    "keep_features_gb": 1,
    "spare_memory": True,
    "lock_timeout": 3,
    "device": "auto",
}


def test_a_second_run_does_nothing(project: Project) -> None:
    before = project.digests()
    output = project.dvc("repro")
    assert stages_run(output) == stages_restored(output) == []
    assert "up to date" in output
    assert project.digests() == before
    assert project.git("status", "--porcelain") == ""


def test_how_to_run_is_no_reason_to_run(project: Project) -> None:
    project.set_params({"run": OTHER_RUN})
    output = project.dvc("repro")
    assert stages_run(output) == stages_restored(output) == []
    assert project.git("status", "--porcelain").split() == ["M", "params.yaml"]


def test_all_keys_of_group_run_are_tried(project: Project) -> None:
    from pipeline.params import RunParams

    assert set(OTHER_RUN) == set(RunParams.model_fields)


def test_a_forced_run_gives_the_same_bytes(project: Project, built: Project) -> None:
    assert stages_run(project.dvc("repro", "--force")) == STAGES
    assert project.digests() == built.digests()
    assert (project.root / "metrics.json").read_bytes() == (built.root / "metrics.json").read_bytes()
    assert project.git("status", "--porcelain") == ""
