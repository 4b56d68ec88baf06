"""A copy of what the plan of the baselines is made from, in a git repository of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, encoding="utf-8").stdout


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The current folder of the test: parameters, presets, graph, and a line of code for every file that it names."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    for name in ("params.yaml", "dvc.yaml", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("pipeline", "stages"):
        for path in (ROOT / folder).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("# code\n")
    (tmp_path / "metrics.json").write_text("{}\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git("init", "--quiet", "--initial-branch", "main")
    git("config", "user.name", "Test")
    git("config", "user.email", "test@example.org")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Start")
    return tmp_path
