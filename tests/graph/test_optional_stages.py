"""The stages that use labels: they run when asked, for what is asked, and touch nothing before them."""

import json
from pathlib import Path

import pytest

from pipeline.labels.names import segmentation_by, segmentation_of
from pipeline.runtime.artifacts import open_artifact
from tests.graph.project import OPTIONAL, OUTS, Project, stages_restored, stages_run

pytestmark = pytest.mark.graph

ASKED = ("-S", "optional.probe=[backbone,segmenter]", "-S", "optional.finetune=[segmenter]")
PLACES = ("probe/backbone", "probe/segmenter", "finetune/segmenter")


def fs4(project: Project, *arguments: str) -> str:
    """Run `fs4` with the code of the copy; an installed `fs4` would take that of the original."""
    return project.run("python", "-c", "from pipeline.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def labelled(built: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The project after an experiment with labels, and what DVC printed."""
    project = built.duplicate(tmp_path_factory.mktemp("labelled") / "project")
    return project, project.dvc("exp", "run", "--name", "with-labels", *ASKED)


def test_what_is_asked_for_runs_and_nothing_else(labelled: tuple[Project, str], built: Project) -> None:
    project, output = labelled
    assert sorted(stages_run(output)) == sorted(place.replace("/", "@") for place in PLACES)
    assert stages_restored(output) == []
    assert project.digests() == built.digests()
    assert (project.root / "metrics.json").read_bytes() == (built.root / "metrics.json").read_bytes()
    for stage in OPTIONAL:
        assert not (built.root / "data" / stage).exists()
    for place in PLACES:
        project.assert_whole(place)


def test_the_results_are_there(labelled: tuple[Project, str]) -> None:
    data = labelled[0].root / "data"
    for source in ("backbone", "segmenter"):
        found = open_artifact(data / "probe" / source).json("probe.json")
        assert found["map"] == source
        assert found["probes"].keys() == {"linear", "knn"}
        assert (found["learnt_images"], found["scored_images"], found["split"]) == (12, 4, "val")
    curve = open_artifact(data / "finetune/segmenter").json("curve.json")
    assert [(point["images"], point["start"]) for point in curve["points"]] == [
        (images, start) for images in (1, 12) for start in ("pretrained", "random")
    ]


def test_a_second_run_does_nothing_and_one_more_entry_runs_alone(labelled: tuple[Project, str], tmp_path: Path) -> None:
    project = labelled[0].duplicate(tmp_path / "project")
    before = project.digests(*OUTS, *PLACES)
    assert stages_run(project.dvc("repro")) == []
    assert project.digests(*OUTS, *PLACES) == before
    output = project.dvc("exp", "run", "-S", "optional.finetune=[backbone,segmenter]")
    assert stages_run(output) == ["finetune@backbone"]
    assert project.digests(*OUTS, *PLACES) == before


def test_the_pages_are_written_from_them(labelled: tuple[Project, str], tmp_path: Path) -> None:
    project = labelled[0].duplicate(tmp_path / "project")
    report = (project.root / "data/report/index.html").read_bytes()
    assert fs4(project, "labels-report") == "data/labels/index.html\n"
    page = (project.root / "data/labels/index.html").read_text("utf-8")
    assert page.count("<polyline") == 2
    assert "<td>linear</td>" in page
    fs4(project, "name")
    names = project.root / "names.yaml"
    names.write_text(names.read_text("utf-8").replace('"cluster 1"', '"meadow"'), "utf-8")
    assert fs4(project, "report") == "9 clusters with 9 names in data/labels/report.html\n"
    assert "meadow" in (project.root / "data/labels/report.html").read_text("utf-8")
    fs4(project, "name", "--apply", "names.yaml", "--output", "named")
    legend = json.loads((project.root / "named/legend.json").read_text("utf-8"))
    assert legend[1]["name"] == "meadow"
    # a model knows the names of its clusters without the evaluation
    segmenter, evaluation = (open_artifact(project.root / "data" / name) for name in ("segmenter", "evaluation"))
    assert segmentation_by(segmenter) == segmentation_of(evaluation)
    assert (project.root / "data/report/index.html").read_bytes() == report
    assert stages_run(project.dvc("repro")) == []
