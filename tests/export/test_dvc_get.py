import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.export.loading import load_segmenter
from tests.export.conftest import K
from tests.graph.project import ROOT, Project, copy_environment

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))


def test_the_artifact_is_what_stage_train_writes():
    (entry,) = GRAPH["artifacts"].values()
    assert entry["path"] in GRAPH["stages"]["train"]["outs"]
    assert entry["type"] == "model"
    assert entry["desc"]
    assert "self-supervised" in entry["labels"]


@pytest.mark.graph
def test_a_model_is_fetched_from_a_repository_with_a_remote(model: Path, tmp_path: Path):
    (tmp_path / "origin").mkdir()
    origin = Project(tmp_path / "origin", copy_environment(tmp_path / "site"))
    origin.git("init", "--quiet", "--initial-branch", "main")
    origin.git("config", "user.name", "Test")
    origin.git("config", "user.email", "test@example.org")
    origin.dvc("init", "--quiet")
    origin.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    shutil.copytree(model, origin.root / "data/segmenter")
    graph = {
        "stages": {"train": {"cmd": "exit 1", "outs": GRAPH["stages"]["train"]["outs"]}},
        "artifacts": GRAPH["artifacts"],
    }
    (origin.root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    origin.dvc("commit", "--force")
    origin.dvc("push")
    origin.commit("Model")
    shutil.rmtree(origin.root / ".dvc/cache")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Project(tmp_path / "elsewhere", origin.environment)
    elsewhere.dvc("get", str(origin.root), "data/segmenter", "--out", "segmenter")
    assert load_segmenter(elsewhere.root / "segmenter").k == K
