"""Runs in a copy that DVC makes of the repository (`--temp`, `--queue`), and images outside the repository."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.graph.project import STAGES, Project, stages_run

pytestmark = pytest.mark.graph

UNLABELLED = ["backbone", "features", "pseudo_labels", "segmenter"]
BROKEN = "\nraise SystemExit('this is the live code')\n"


@pytest.fixture(scope="module")
def photos(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, masks and classes outside any repository, with a blank in its path."""
    root = tmp_path_factory.mktemp("outside") / "my photos"
    for part in ("images", "masks"):
        shutil.copytree(built.root / "data/prepared" / part, root / part)
    shutil.copy(built.root / "data/prepared/classes.json", root)
    return root


@pytest.fixture(scope="module")
def temporary(built: Project, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A `--temp` run of the whole graph on `photos`, while the live code was broken, and what DVC printed."""
    project = built.duplicate(tmp_path_factory.mktemp("temporary") / "project")
    flags = ["-S", "data.source=folder", "-S", f'data.root="{photos}"']
    lines = []
    with project.start("dvc", "exp", "run", "--temp", "--name", "photos", *flags) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Running stage 'prepare'"):
                break_code(project)
        assert process.wait() == 0, "".join(lines)
    assert "stages/train.py" in project.git("diff", "--name-only")
    project.git("checkout", "--quiet", "stages", "params.yaml")
    return project, "".join(lines)


@pytest.fixture
def applied(temporary: tuple[Project, str], tmp_path: Path) -> Project:
    """The workspace with the results of `temporary`."""
    project = temporary[0].duplicate(tmp_path / "project")
    project.dvc("exp", "apply", "photos")
    return project


def test_a_temporary_run_uses_its_own_code(temporary: tuple[Project, str], built: Project) -> None:
    project, output = temporary
    assert stages_run(output) == STAGES
    assert "live code" not in output
    assert project.digests() == built.digests()


def test_a_queued_run_uses_the_code_of_its_time(applied: Project) -> None:
    applied.dvc("exp", "run", "--queue", "--name", "queued", "-S", "data.min_side=17", "prepare")
    break_code(applied)
    try:
        output = applied.dvc("exp", "run", "--run-all")
    finally:
        applied.dvc("queue", "stop", "--kill")
    assert stages_run(output) == ["prepare"]
    assert "done: images 16" in output
    assert "Success" in applied.dvc("queue", "status")
    assert "queued" in applied.dvc("exp", "list", "--name-only")


def test_masks_reach_nothing_before_the_evaluation(applied: Project, photos: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    shutil.copytree(photos, noisy)
    moved = photos.with_name("as they were")
    before = applied.digests("prepared", *UNLABELLED)
    evaluated = applied.digests("evaluation")
    random = np.random.default_rng(0)
    for mask in (noisy / "masks").rglob("*.png"):
        noise = random.integers(0, 3, np.asarray(Image.open(mask)).shape, dtype=np.uint8)
        Image.fromarray(noise).save(mask)
    photos.rename(moved)
    noisy.rename(photos)
    try:
        output = applied.dvc("repro")
    finally:
        shutil.rmtree(photos)
        moved.rename(photos)
    assert stages_run(output) == ["prepare", "evaluate", "report"]
    after = applied.digests("prepared", *UNLABELLED)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"prepared/truth.parquet"}
    assert applied.digests("evaluation") != evaluated


@pytest.mark.parametrize("exists", [True, False])
def test_a_relative_folder_outside_the_project_is_refused(project: Project, built: Project, exists: bool) -> None:
    if exists:
        shutil.copytree(built.root / "data/prepared/images", project.root.with_name("photos") / "images")
    project.set_params({"data": {"source": "folder", "root": "../photos"}})
    output = project.stage("prepare", code=2)
    assert "data.root: '../photos' is neither absolute nor inside the project; give the absolute path" in output
    assert project.digests() == built.digests()
    assert stages_run(project.dvc("repro", code=None)) in (["prepare"], [])
    others = ("backbone", "report")
    assert project.digests(*others) == built.digests(*others)


def break_code(project: Project) -> None:
    for stage in STAGES:
        with (project.root / f"stages/{stage}.py").open("a", encoding="utf-8") as file:
            file.write(BROKEN)
