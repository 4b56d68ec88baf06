import dataclasses

import pytest

from pipeline.report.provenance import collect_params, collect_versions, flatten, label_badges, trace_sources
from pipeline.runtime.artifacts import open_artifact, write_json

CLEAN = {"labels_used": False}


def texts(sidecars, method="global_dense"):
    return [badge.text for badge in label_badges(sidecars, method)]


def test_clean_run_is_stamped():
    assert texts({"backbone": {}, "segmenter": CLEAN}) == ["no labels used before evaluation"]
    assert texts({"backbone": CLEAN, "segmenter": CLEAN}, None) == ["no labels used before evaluation"]


def test_random_backbone_is_a_control():
    assert "random backbone (control)" in texts({"backbone": CLEAN, "segmenter": CLEAN}, "none")


@pytest.mark.parametrize("name", ["backbone", "segmenter"])
def test_labels_anywhere_are_stamped(name):
    sidecars = {"backbone": CLEAN, "segmenter": CLEAN, name: {"labels_used": True}}
    assert texts(sidecars) == ["labels were used in training"]


@pytest.mark.parametrize(
    "sidecar",
    [
        {"init": "supervised"},
        {"initialisation": "ImageNet, supervised"},
        {"architecture": {"init": "supervised"}},
        {"allow_supervised_init": True},
    ],
)
def test_supervised_weights_are_stamped(sidecar):
    assert texts({"backbone": {**CLEAN, **sidecar}, "segmenter": CLEAN}) == ["not fully self-supervised"]


@pytest.mark.parametrize("start", ["self-supervised", "self_supervised", "unsupervised", "random"])
def test_self_supervised_weights_are_not(start):
    assert texts({"backbone": {"init": start, "allow_supervised_init": False}, "segmenter": CLEAN}) == [
        "no labels used before evaluation"
    ]


def test_silence_is_no_promise():
    assert texts({"backbone": {}, "segmenter": {}}) == ["use of labels not stated"]


def test_values_are_flattened_and_long_lists_cut():
    lines = flatten({"a": {"b": 1e-05, "c": None}, "d": list(range(20)), "e": True})
    assert lines[:2] == [("a.b", "1e-05"), ("a.c", "none")]
    assert lines[2][1].endswith("11, … (20 values)")
    assert lines[3] == ("e", "yes")


def test_chain_of_digests_is_checked(project):
    described = project()
    inputs = described.write()
    states = {source.folder: [state for _, _, state in source.inputs] for source in trace_sources(inputs)}
    assert states == {"backbone": [], "pseudo_labels": [], "segmenter": ["same"] * 2, "evaluation": ["same"]}

    path = described.root / "data/backbone/manifest.json"
    write_json(path, {**inputs.backbone.manifest, "rebuilt": True})
    changed = dataclasses.replace(inputs, backbone=open_artifact(path.parent))
    segmenter = next(source for source in trace_sources(changed) if source.folder == "segmenter")
    assert [state for _, _, state in segmenter.inputs] == ["other", "same"]


def test_params_of_all_stages_and_differing_versions(project):
    inputs = project().write()
    params = collect_params(inputs, {"title": "x"})
    assert list(params) == ["pretrain", "pgg", "train", "evaluate", "report"]
    assert ("cae.gamma", "0.5") in params["train"]

    inputs.backbone.manifest["versions"]["torch"] = "2.6.0"
    assert ("torch", ["2.14.1", "2.6.0"]) in collect_versions(inputs)


def test_an_imported_backbone_is_named():
    checkpoint = {
        "file": "moco.pth",
        "layout": "MoCo",
        "sha256": "ab" * 32,
        "matched_share": 0.98,
        "allow_supervised_init": False,
    }
    sidecars = {"backbone": {**CLEAN, "checkpoint": checkpoint}, "segmenter": CLEAN}
    clean, imported = label_badges(sidecars, "checkpoint")
    assert clean.text == "no labels used before evaluation"
    assert imported.text == "imported backbone"
    assert "moco.pth (layout MoCo, sha256 abababababab, 98.0% of its tensors)" in imported.explanation
    checkpoint["allow_supervised_init"] = True
    sidecars = {name: {**sidecar, "labels_used": True} for name, sidecar in sidecars.items()}
    assert texts(sidecars, "checkpoint") == ["not fully self-supervised", "imported backbone"]
