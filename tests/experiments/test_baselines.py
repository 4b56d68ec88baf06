"""What `run_baselines` does around the runs; DVC itself is replaced, and runs in tests/graph/test_baselines.py."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, TrainingError
from pipeline.experiments import baselines, workspace
from pipeline.experiments.baselines import run_baselines
from pipeline.experiments.workspace import Outcome
from pipeline.runtime.artifacts import create_artifact, write_json
from pipeline.runtime.interrupts import Interrupted
from tests.experiments.conftest import git

RESULTS = Path("docs/results")


class Dvc:
    """Notes what is run and removed, and leaves what a run would leave."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.ran: list[str] = []
        self.outcomes: dict[str, Outcome] = {}

    def run(self, name, flags, screen) -> Outcome:
        self.ran.append(name)
        (self.project / "params.yaml").write_text("changed: by DVC\n")
        outcome = self.outcomes.get(name, Outcome({"train": 7.0}))
        if not outcome.code:
            make_evaluation(float(len(self.ran)))
            self.add(name, workspace.current_commit())
        return outcome

    def remove(self, experiments) -> None:
        for experiment in experiments:
            git("update-ref", "-d", experiment.reference)

    def add(self, name: str, commit: str) -> None:
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/{name}", commit)

    def names(self) -> list[str]:
        return sorted(experiment.name for experiment in workspace.list_experiments())


def make_evaluation(miou: float) -> None:
    for folder in ("data/segmenter", "data/evaluation"):
        with create_artifact(Path(folder)) as writer:
            writer.notes |= {"versions": {"torch": "1"}, "machine": {"threads": 1}}
            (writer.path / "gallery").mkdir()
            (writer.path / "gallery/00-prediction.png").write_bytes(b"png")
            write_json(writer.path / "metrics.json", {"all": {"miou": miou, "pixel_accuracy": 2.0}})
            write_json(writer.path / "protocol.json", {"split": "val"})


@pytest.fixture
def dvc(project, monkeypatch) -> Dvc:
    stand_in = Dvc(project)
    monkeypatch.setattr(baselines, "run_experiment", stand_in.run)
    monkeypatch.setattr(baselines, "remove_experiments", stand_in.remove)
    return stand_in


def run(only: str = "picie fs4", seeds: str = "0", force: bool = False) -> None:
    run_baselines("", [], seeds, only.split(), force=force, results=RESULTS)


def noted(name: str) -> dict:
    return json.loads((RESULTS / f"sample-{name}.json").read_text())


def test_a_finished_run_is_recorded_with_its_pictures_and_the_files_are_restored(dvc):
    run(seeds="1")
    assert dvc.ran == ["picie-s1", "fs4-s1"]
    record = noted("fs4-s1")
    expected = {
        "name": "fs4-s1",
        "preset": "fs4",
        "seed": 1,
        "data": "sample",
        "split": "val",
        "seconds": {"train": 7.0},
    }
    assert record.items() >= expected.items()
    assert record["metrics"]["all"]["miou"] == 2.0
    assert record["versions"] == {"torch": "1"}
    assert Path("data/compare/sample/fs4-s1/00-prediction.png").read_bytes() == b"png"
    assert git("status", "--porcelain", "--untracked-files=no") == ""


def test_what_is_recorded_is_not_run_again_unless_forced(dvc):
    run("picie")
    run()
    assert dvc.ran == ["picie", "fs4"]
    run()
    assert dvc.ran == ["picie", "fs4"]
    run(force=True)
    assert dvc.ran == ["picie", "fs4", "picie", "fs4"]
    assert dvc.names() == ["fs4", "picie"]


def test_seconds_of_a_restored_stage_are_those_of_its_first_run(dvc):
    run("picie")
    make_evaluation(1.0)
    dvc.ran.clear()
    dvc.outcomes["picie"] = Outcome()
    run("picie", force=True)
    assert noted("picie")["seconds"] == {"train": 7.0}


def test_an_interrupted_call_goes_on_where_it_stopped(dvc):
    dvc.outcomes["fs4"] = Outcome(code=252, stopped_by=2)
    with pytest.raises(Interrupted):
        run("picie fs4 features")
    assert dvc.ran == ["picie", "fs4"]
    assert git("status", "--porcelain", "--untracked-files=no") == ""
    assert not (RESULTS / "sample-fs4.json").exists()
    dvc.outcomes.clear()
    run("picie fs4 features")
    assert dvc.ran == ["picie", "fs4", "fs4", "features"]


def test_a_run_that_ends_with_a_signal_is_recorded_first(dvc):
    dvc.outcomes["picie"] = Outcome({"train": 1.0}, stopped_by=15)
    with pytest.raises(Interrupted):
        run()
    assert dvc.ran == ["picie"]
    assert noted("picie")["seconds"] == {"train": 1.0}


def test_a_failed_training_does_not_stop_the_others(dvc):
    dvc.outcomes["picie"] = Outcome(failed="train", code=255)
    with pytest.raises(TrainingError, match=r"the training of picie failed"):
        run()
    assert dvc.ran == ["picie", "fs4"]
    assert git("status", "--porcelain", "--untracked-files=no") == ""


def test_any_other_failure_does(dvc):
    dvc.outcomes["picie"] = Outcome(failed="prepare", code=255)
    with pytest.raises(InputError, match="picie: the run failed"):
        run()
    assert dvc.ran == ["picie"]


def test_older_experiments_of_the_same_names_are_removed_first(dvc):
    start = workspace.current_commit()
    for name in ("picie", "fs4", "mine"):
        dvc.add(name, start)
    git("commit", "--quiet", "--allow-empty", "--message", "Next")
    dvc.outcomes["picie"] = Outcome(code=252, stopped_by=2)
    with pytest.raises(Interrupted):
        run()
    assert dvc.names() == ["mine"]


def test_experiments_of_another_commit_are_refused_with_the_mend(dvc):
    start = workspace.current_commit()
    dvc.add("picie", start)
    dvc.add("features-s1", start)
    git("commit", "--quiet", "--allow-empty", "--message", "Next")
    dvc.add("picie", workspace.current_commit())
    with pytest.raises(InputError, match=rf"experiments features-s1, picie: made from commit {start[:7]}") as caught:
        run("fs4")
    # a name alone would mean the experiment of this commit
    reference = f"refs/exps/{start[:2]}/{start[2:]}/picie"
    assert f"`dvc exp remove features-s1 {reference}` (their records stay)" in str(caught.value)
    assert f"`git checkout {start[:7]}`" in str(caught.value)
    assert dvc.ran == []


def test_experiments_of_other_data_are_refused(dvc, project):
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("  limit: 0", "  limit: 5"))
    git("commit", "--quiet", "--all", "--message", "Other data")
    other = workspace.current_commit()
    params.write_text(text)
    git("commit", "--quiet", "--all", "--message", "Back")
    commit = workspace.current_commit()
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/picie", other)
    with pytest.raises(InputError, match=r"experiment picie: made from other data; remove them with `dvc exp remove"):
        run("fs4")


@pytest.mark.parametrize(
    ("name", "mend"), [("dvc.yaml", "commit or stash the changes"), ("params.yaml", "`git checkout params.yaml`")]
)
def test_changed_files_are_refused_with_the_mend(dvc, project, name, mend):
    with (project / name).open("a") as file:
        file.write("# a note\n")
    with pytest.raises(InputError, match=f"{name}: changed since the last commit") as caught:
        run()
    assert mend in str(caught.value)
    assert dvc.ran == []


def test_a_commit_in_between_ends_the_call(dvc, monkeypatch):
    commits = iter(["a" * 40, "a" * 40, "b" * 40])
    monkeypatch.setattr(baselines, "current_commit", lambda: next(commits))
    with pytest.raises(InputError, match=r"the commit changed from aaaaaaa meanwhile"):
        run()
    assert dvc.ran == ["picie"]
