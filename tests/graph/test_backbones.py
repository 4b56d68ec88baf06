"""Every kind of backbone goes through all stages, and leaves as an ONNX file that labels as the trained model does."""

import json

import pytest

from tests.graph.project import OUTS, Project

pytestmark = pytest.mark.graph


@pytest.mark.parametrize("backbone", ["convnext_tiny", "vit_small_patch16"])
def test_a_backbone_is_trained_evaluated_and_exported(project: Project, backbone: str) -> None:
    once = {"epochs": 1}
    project.set_params({"pretrain": {"backbone": backbone, **once}, "train": once})
    for stage in ("pretrain", "extract", "cluster", "train", "evaluate"):
        project.stage(stage)
    for out in OUTS[:-1]:
        project.assert_whole(out)
    assert json.loads((project.root / "data/evaluation/metrics.json").read_text())["all"]["miou"] > 0
    call = "from pipeline.cli import main; main()"
    project.run("python", "-c", call, "export", "--images", "4", "--calibration", "8")
    figures = json.loads((project.root / "data/export/figures.json").read_text())
    assert figures["passed"]
    assert figures["models"]["model.onnx"]["agreement"] >= 99.9
    assert figures["models"]["model-int8.onnx"]["agreement"] >= 98
