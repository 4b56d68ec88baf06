"""Parameter changes by `dvc exp run`, and comparing their results."""

import json
from pathlib import Path

import pytest

from tests.graph.project import Project, stages_restored, stages_run

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def first(built: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Experiment `more-clusters`, and what DVC printed."""
    project = built.duplicate(tmp_path_factory.mktemp("first") / "project")
    return project, project.dvc("exp", "run", "--name", "more-clusters", "-S", "pgg.k=7")


@pytest.fixture(scope="module")
def second(first: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Experiment `slower` after `more-clusters`, with the earlier value of `pgg.k`, and what DVC printed."""
    project = first[0].duplicate(tmp_path_factory.mktemp("second") / "project")
    changes = ["-S", "pgg.k=6", "-S", "train.learning_rate=1e-5"]
    return project, project.dvc("exp", "run", "--name", "slower", *changes)


def test_only_what_comes_after_a_parameter_runs(first: tuple[Project, str], built: Project) -> None:
    project, output = first
    assert stages_run(output) == ["cluster", "train", "evaluate", "report"]
    assert stages_restored(output) == []
    assert manifest(project, "pseudo_labels")["params"]["pgg"]["k"] == 7
    before = ("prepared", "backbone", "features")
    assert project.digests(*before) == built.digests(*before)


def test_an_earlier_value_is_served_from_the_run_cache(
    first: tuple[Project, str], built: Project, tmp_path: Path
) -> None:
    project = first[0].duplicate(tmp_path / "project")
    assert project.digests() != built.digests()
    output = project.dvc("exp", "run", "-S", "pgg.k=6")
    assert stages_restored(output) == ["cluster", "train", "evaluate"]
    assert stages_run(output) == ["report"]
    assert project.digests() == built.digests()
    assert project.git("status", "--porcelain") == ""


def test_numbers_in_e_notation_arrive_as_numbers(second: tuple[Project, str]) -> None:
    project, output = second
    assert stages_restored(output) == ["cluster"]
    assert stages_run(output) == ["train", "evaluate", "report"]
    rate = manifest(project, "segmenter")["params"]["train"]["learning_rate"]
    assert isinstance(rate, float)
    assert rate == 1e-5


def test_experiments_are_compared_by_name(second: tuple[Project, str]) -> None:
    project, _ = second
    metrics = json.loads(project.dvc("metrics", "diff", "--json", "--all", "more-clusters", "slower"))
    compared = metrics["metrics.json"]["clusters.entropy"]
    assert compared.keys() >= {"old", "new"}
    params = json.loads(project.dvc("params", "diff", "--json", "more-clusters", "slower"))["params.yaml"]
    assert params["pgg.k"] == {"old": 7, "new": 6, "diff": -1}
    assert set(params) == {"pgg.k", "train.learning_rate"}


def test_curves_of_experiments_are_drawn_together(second: tuple[Project, str], tmp_path: Path) -> None:
    project = second[0].duplicate(tmp_path / "project")
    output = project.dvc("plots", "diff", "more-clusters", "slower")
    assert "fail" not in output.lower()
    page = (project.root / "dvc_plots/index.html").read_text("utf-8")
    for plot in ("pretraining", "training"):
        assert f'id = "{plot}"' in page
    for experiment in ("more-clusters", "slower"):
        assert f'"rev": "{experiment}"' in page
    assert "fail" not in project.dvc("plots", "show").lower()
    assert "dvc_plots" not in project.git("status", "--porcelain")


def test_a_fresh_clone_shows_the_committed_results(built: Project, tmp_path: Path) -> None:
    built.git("clone", "--quiet", str(built.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", built.environment)
    shown = json.loads(clone.dvc("metrics", "show", "--json"))
    assert shown[""]["data"]["metrics.json"]["data"] == json.loads((built.root / "metrics.json").read_text("utf-8"))
    assert "| pretrain |" in clone.dvc("dag")
    changed = json.loads(clone.dvc("params", "diff", "--json", "HEAD~2"))["params.yaml"]
    assert changed["pgg.k"]["new"] == 6


def manifest(project: Project, out: str) -> dict:
    return json.loads((project.root / "data" / out / "manifest.json").read_text("utf-8"))
