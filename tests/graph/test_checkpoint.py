"""A file of weights that somebody else made is an input like any other."""

from pathlib import Path

import pytest
import torch
import torchvision

from pipeline.runtime.artifacts import open_artifact
from pipeline.runtime.digests import file_digest
from tests.graph.project import Project, stages_run

pytestmark = pytest.mark.graph


def save(path: Path, scale: float) -> None:
    state = torchvision.models.resnet18(weights=None, num_classes=128).state_dict()  # a projection, as MoCo has
    torch.save({"state_dict": {f"module.encoder_q.{key}": scale * value for key, value in state.items()}}, path)


def test_a_changed_file_of_weights_runs_the_stage_again_and_is_recorded(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "my weights.pth"
    save(path, 1.0)
    project.set_params({"pretrain": {"method": "checkpoint", "checkpoint": str(path)}})
    output = project.dvc("repro", "pretrain")
    assert stages_run(output) == ["pretrain"]
    assert "100 of 100 tensors of the backbone matched (100.0%)" in output
    backbone = open_artifact(project.root / "data/backbone")
    assert backbone.manifest["checkpoint"]["sha256"] == file_digest(path)
    assert backbone.manifest["checkpoint"]["layout"] == "MoCo"
    assert backbone.json("import.json")["unexpected"] == ["fc.bias", "fc.weight"]
    assert stages_run(project.dvc("repro", "pretrain")) == []
    save(path, 0.5)
    assert stages_run(project.dvc("repro", "pretrain")) == ["pretrain"]
    changed = open_artifact(project.root / "data/backbone")
    assert changed.manifest["checkpoint"]["sha256"] == file_digest(path)
    assert project.dvc("status", "train").count("data/backbone") == 1
