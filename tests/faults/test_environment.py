"""Rows 38 to 41: other folders, paths, versions, clocks and languages."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.faulty import alter_manifest
from tests.graph.project import Project

pytestmark = pytest.mark.graph


def test_row_38_code_of_another_folder(project: Project, built: Project, tmp_path: Path) -> None:
    """A copy of the project that would run the code of another one: an old editable install, another folder.

    `python -m` takes the code of the current folder; where that is switched off, exit code 3. (Runs of DVC in its own
    copies are tested in `tests/graph/test_snapshots.py`.)
    """
    old = tmp_path / "old install"
    for package in ("pipeline", "stages"):
        shutil.copytree(built.root / package, old / package)
    broken = old / "pipeline/clustering/pyramid.py"
    broken.write_text("raise SystemExit('this is the old code')\n")
    project.run("python", "-m", "stages.cluster", PYTHONPATH=str(old))
    assert project.digests() == built.digests()
    output = project.run("python", "-m", "stages.prepare", code=3, PYTHONPATH=str(old), PYTHONSAFEPATH="1")
    assert f"{old.resolve()}/pipeline/__init__.py: this is not the code of the current folder; run stages as" in output
    assert project.digests() == built.digests()


def test_row_39_paths(built: Project, tmp_path: Path) -> None:
    """A project below a folder with blanks, other scripts and a long path; images in such folders too.

    Works, and manifests hold relative POSIX paths only.
    """
    deep = tmp_path.joinpath(*["a long name with blanks äöü 日本語"] * 4) / "project"
    project = built.duplicate(deep)
    for stage in ("prepare", "extract", "cluster", "evaluate", "report"):
        project.stage(stage)
    assert project.digests() == built.digests()
    for manifest in (project.root / "data").glob("*/manifest.json"):
        text = manifest.read_text("utf-8")
        assert str(tmp_path) not in text
        assert "\\\\" not in text
    shutil.rmtree(tmp_path / "a long name with blanks äöü 日本語")


def test_row_40_other_library_versions(project: Project) -> None:
    """Inputs that were made with other versions of the libraries.

    Versions stand in every manifest and in the report; a warning tells where they differ.
    """
    for folder in (project.root / "data").glob("*/manifest.json"):
        assert {"torch", "numpy", "pyarrow", "faiss-cpu"} <= set(json.loads(folder.read_text())["versions"])
    folder = project.root / "data/features"
    versions = json.loads((folder / "manifest.json").read_text())["versions"]
    alter_manifest(folder, versions={**versions, "numpy": "0.1"})
    assert "data/features was made with numpy 0.1, this is " in project.stage("cluster")
    folder = project.root / "data/evaluation"
    alter_manifest(folder, versions={**versions, "torch": "0.2.3"})
    project.stage("report")
    assert "0.2.3" in (project.root / "data/report/index.html").read_text("utf-8")


def test_row_41_clock_time_zone_and_language(project: Project, built: Project) -> None:
    """Another time, time zone and language, as one with a decimal comma.

    The same bytes: no numbers are written the local way, and no times stand in outputs.
    """
    elsewhere = {"TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "LANGUAGE": "de"}
    for stage in ("prepare", "pretrain", "cluster", "evaluate", "report"):
        project.run("python", "-m", f"stages.{stage}", **elsewhere)
    comma = "import locale; locale.localeconv = lambda: {'decimal_point': ','}; from stages.report import main; main()"
    project.run("python", "-c", comma, **elsewhere, PYTHONUTF8="0", LC_CTYPE="C")
    assert project.digests() == built.digests()
