"""`fs4 baselines` on the tiny preset: two baselines with two seeds each, and when it refuses to run."""

import json
import re
from pathlib import Path

import pytest

from tests.graph.project import Project, stages_run

pytestmark = pytest.mark.graph
NAMES = ["picie", "fs4", "picie-s1", "fs4-s1"]


def baselines(project: Project, *arguments: str, code: int = 0) -> str:
    """Run `fs4 baselines` with the code of the copy; an installed `fs4` would take that of the original."""
    call = "from pipeline.cli import main; main()"
    return project.run("python", "-c", call, "baselines", *arguments, code=code)


def record(project: Project, name: str) -> dict:
    return json.loads((project.root / f"docs/results/sample-{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def first(built: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The project after two baselines with two seeds, and what was printed."""
    project = built.duplicate(tmp_path_factory.mktemp("first") / "project")
    project.set_params({"pretrain": {"weight_decay": 1e-3, "epochs": 1}, "train": {"epochs": 1}})
    project.commit("Another backbone, which nobody has computed yet")
    return project, baselines(project, "--only", "picie fs4", "--seeds", "0 1")


def test_what_the_baselines_of_a_seed_share_is_computed_once(first: tuple[Project, str]) -> None:
    shared = ["pretrain", "extract", "cluster"]
    each = ["train", "evaluate", "report"]
    assert stages_run(first[1]) == [*shared, *each * 2] * 2


def test_every_run_is_an_experiment_and_a_record(first: tuple[Project, str]) -> None:
    project, output = first
    commit = project.git("rev-parse", "HEAD").strip()
    assert sorted(project.dvc("exp", "list", "--name-only").split()) == sorted(NAMES)
    for name in NAMES:
        noted = record(project, name)
        assert (noted["name"], noted["preset"], noted["data"]) == (name, name.removesuffix("-s1"), "sample")
        assert noted["seed"] == (1 if name.endswith("-s1") else 0)
        assert (noted["commit"], noted["split"]) == (commit, "val")
        assert noted["seconds"].keys() >= {"pretrain", "extract", "cluster", "train", "evaluate"}
        seeds = f"-S pretrain.seed={noted['seed']} -S train.seed={noted['seed']}"
        assert noted["command"] == f"dvc exp run $(fs4 preset {noted['preset']}) {seeds}"
        pictures = project.root / "data/compare/sample" / name
        assert len(list(pictures.glob("*-prediction.png"))) == 3
        assert f"| sample | `{noted['preset']}` | 0, 1 |" in output
    assert record(project, "picie")["metrics"] != record(project, "fs4")["metrics"]
    assert record(project, "fs4")["metrics"] != record(project, "fs4-s1")["metrics"]
    # a clone shows the same figures as the experiment
    shown = json.loads(project.dvc("metrics", "diff", "--json", "--all", "picie", "fs4"))["metrics.json"]
    assert shown["all.miou"]["old"] == pytest.approx(record(project, "picie")["metrics"]["all"]["miou"])
    assert shown["all.miou"]["new"] == pytest.approx(record(project, "fs4")["metrics"]["all"]["miou"])


def test_nothing_but_records_is_left_in_the_folder(first: tuple[Project, str]) -> None:
    project, _ = first
    changed = project.git("status", "--porcelain").splitlines()
    assert changed == sorted(f"?? docs/results/sample-{name}.json" for name in NAMES)
    assert project.git("symbolic-ref", "HEAD") == "refs/heads/main\n"


def test_a_second_call_skips_what_is_recorded_and_makes_what_is_not(first: tuple[Project, str], tmp_path: Path) -> None:
    project = first[0].duplicate(tmp_path / "project")
    output = baselines(project, "--only", "picie fs4", "--seeds", "0 1")
    assert stages_run(output) == []
    assert [name for name in NAMES if f"{name}: already there" in output] == NAMES
    assert "| sample | `fs4` | 0, 1 |" in output
    before = record(project, "fs4")
    (project.root / "docs/results/sample-fs4.json").unlink()
    output = baselines(project, "--only", "picie fs4")
    assert stages_run(output) == ["report"]
    again = record(project, "fs4")
    # only the report ran again; the time of all other stages is known from before
    assert again["seconds"].pop("report") > 0
    assert before["seconds"].pop("report") > 0
    assert again == before


def test_a_moved_commit_and_a_dirty_tree_are_refused(first: tuple[Project, str], tmp_path: Path) -> None:
    project = first[0].duplicate(tmp_path / "project")
    readme = project.root / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nMore.\n", "utf-8")
    output = baselines(project, "--only", "features", code=3)
    assert "README.md: changed since the last commit" in output
    assert "commit or stash the changes" in output
    project.commit("A note")
    output = baselines(project, "--only", "features", code=3)
    assert f"experiments {', '.join(sorted(NAMES))}: made from commit " in output
    (mend,) = re.findall(r"`(dvc exp remove [^`]+)`", output)
    project.run(*mend.split())
    assert stages_run(baselines(project, "--only", "features")) == ["train", "evaluate", "report"]
    assert record(project, "features")["metrics"]["clusters"]["k"] == 9
    # what is recorded is neither run nor in the way
    assert "picie: already there" in baselines(project, "--only", "picie")
