import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.artifacts import open_artifact, write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(project):
    """A copy of the code in a finished project, since stages run the code of their own folder only."""
    described = project()
    described.write()
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, described.root / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "params.yaml", described.root)
    for folder, params in (("prepared", {"data": {"resize": 64}}), ("features", {"extract": {"levels": [1, 7]}})):
        write_json(described.root / "data" / folder / "manifest.json", {"params": params, "files": {}})
    return described.root


def run(root):
    return subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, capture_output=True, text=True, check=False
    )


def test_stage_writes_page_and_metrics(copy):
    (copy / "metrics.json").write_text("an older result", "utf-8")
    done = run(copy)
    assert done.returncode == 0, done.stderr
    page = open_artifact(copy / "data/report").file("index.html")
    text = page.read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "1, 7" in text  # parameters of stages that are known by their manifests only
    assert (copy / "metrics.json").read_bytes() == (copy / "data/evaluation/metrics.json").read_bytes()

    first = page.read_bytes()
    assert run(copy).returncode == 0
    assert page.read_bytes() == first


def test_missing_evaluation_is_named_and_nothing_is_written(copy):
    shutil.rmtree(copy / "data/evaluation")
    done = run(copy)
    assert done.returncode == 3
    assert "data/evaluation" in done.stderr
    assert not (copy / "metrics.json").exists()
    assert not (copy / "data/report").exists()
