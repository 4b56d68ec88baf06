"""`make repro` in a fresh clone, as somebody does who has just installed git."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graph.project import OUTS, Project, stages_restored, stages_run

pytestmark = pytest.mark.graph


def test_a_preset_runs_in_a_clone_without_a_git_identity(sources: Project, built: Project, tmp_path: Path) -> None:
    sources.git("clone", "--quiet", str(sources.root), str(tmp_path / "clone"))
    home = tmp_path / "home"
    home.mkdir()
    clone = Project(tmp_path / "clone", built.environment | {"HOME": str(home)})
    lend_environment(clone.root)
    lend_results(clone.root, built.root)
    assert "user." not in clone.git("config", "--list")

    output = clone.run("make", "repro", "PRESET=tiny")
    # what the preset does not change but `built` does is listed by no stage, so all was found in the cache
    assert stages_restored(output) == ["prepare", "pretrain", "extract", "cluster", "train", "evaluate"]
    assert stages_run(output) == ["report"]
    # the report's manifest notes the number of threads
    assert clone.digests(*OUTS[:-1]) == built.digests(*OUTS[:-1])
    assert "metrics.json" in output
    report = clone.root / "data/report/index.html"
    assert f"Report: {report}" in output
    assert report.is_file()
    assert "k: 6" in (clone.root / "dvc.lock").read_text("utf-8")
    assert not clone.git("status", "--porcelain", "params.yaml")
    assert clone.dvc("exp", "list", "--name-only").strip()


@pytest.mark.parametrize("code", [0, 3])
def test_a_preset_leaves_the_parameters_as_they_were(tmp_path: Path, code: int) -> None:
    root = Path(__file__).parents[2]
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    for name, script in {
        "fs4": "echo -S k=6",
        "dvc": f'[ "$1" = exp ] || exit 0; echo "$@" > params.yaml; cp params.yaml seen; exit {code}',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    (tmp_path / ".venv/.ready").touch()
    ended = subprocess.run(["make", "repro", "PRESET=tiny"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode == 0) == (code == 0), ended.stderr
    assert (tmp_path / "seen").read_text() == "exp run -S k=6\n"
    assert (tmp_path / "params.yaml").read_text() == "mine: 1\n"


def test_all_targets_are_explained(sources: Project) -> None:
    shown = {
        line.split()[0] for line in sources.run("make", "--no-print-directory", "help").splitlines() if line.strip()
    }
    rules = (sources.root / "Makefile").read_text("utf-8")
    (phony,) = (line.removeprefix(".PHONY:").split() for line in rules.splitlines() if line.startswith(".PHONY"))
    assert shown == set(phony) - {"help"} | {"help"}


def lend_environment(root: Path) -> None:
    """Give a clone this Python's environment, which `make` then takes for ready."""
    lent = root / ".venv"
    lent.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (lent / entry.name).symlink_to(entry)
    (lent / ".ready").touch()


def lend_results(root: Path, built: Path) -> None:
    """Give a clone the cache of another project, so that it need not compute the same again."""
    for path in (built / ".dvc/cache").rglob("*"):
        target = root / ".dvc/cache" / path.relative_to(built / ".dvc/cache")
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
