import json

import pytest
import torch
import torchvision
from torchvision.models import detection, segmentation

from pipeline.backbones.encoder import build_encoder, save_encoder
from pipeline.backbones.importing import import_weights
from pipeline.errors import InputError


def imported(path, backbone="resnet18", allow=False):
    return import_weights(build_encoder(backbone, 8, seed=0), path, allow_supervised=allow)


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture(scope="module")
def body():
    state = torchvision.models.resnet18(weights=None).state_dict()
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


@pytest.fixture(scope="module")
def vit():
    state = build_encoder("vit_small_patch16", 8, seed=0).backbone.state_dict()
    assert "stages.0.attn.qkv.weight" in state
    return state


@pytest.mark.parametrize(
    ("build", "head"),
    [
        (segmentation.deeplabv3_resnet50, "classifier.4.weight with 21 rows"),
        (segmentation.fcn_resnet50, "classifier.4.weight with 21 rows"),
        (detection.fasterrcnn_resnet50_fpn, "roi_heads.box_predictor.bbox_pred.weight with 364 rows"),
    ],
)
def test_segmentation_and_detection_heads_must_be_allowed(tmp_path, build, head):
    with torch.device("meta"):
        state = build(weights=None, weights_backbone=None).state_dict()
    torch.save({key: torch.zeros(()).expand(value.shape) for key, value in state.items()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w\.pth: {head} is of a head that is trained with labels.*allow_supervised"):
        imported(tmp_path / "w.pth", "resnet50")
    report = imported(tmp_path / "w.pth", "resnet50", allow=True)
    assert (report.share, report.head) == (1.0, head)


@pytest.mark.parametrize(
    "name", ["aux_classifier.4.weight", "decode_head.conv_seg.weight", "conv_seg.weight", "module.rpn.conv.weight"]
)
def test_such_a_head_is_found_wherever_it_lies(tmp_path, body, name):
    torch.save(under("module.backbone.", body) | {name: torch.zeros(19, 256, 1, 1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=f"{name} with 19 rows is of a head"):
        imported(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("student.", "student.fc.weight"),
        ("teacher.backbone.", "teacher.fc.weight"),
        ("teacher.backbone.", "teacher.head.weight"),
        ("module.encoder_q.", "module.encoder_q.fc.weight"),
        ("base_encoder.", "base_encoder.fc.weight"),
        ("model.encoder.", "model.fc.weight"),
    ],
)
def test_names_of_self_supervised_networks_excuse_no_classes(tmp_path, body, prefix, head):
    torch.save(under(prefix, body) | {head: torch.zeros(1000, 512)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=f"{head} with 1000 rows is of a head"):
        imported(tmp_path / "w.pth")


def test_a_head_of_the_network_that_is_not_taken_counts_as_well(tmp_path, body):
    classes = {"fc.weight": torch.zeros(1000, 512)}
    torch.save({"teacher": body, "student": body | classes}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"student\.fc\.weight with 1000 rows"):
        imported(tmp_path / "w.pth")


# as the published code of each builds them
@pytest.mark.parametrize(
    ("prefix", "heads"),
    [
        ("module.encoder_q.", {"fc.weight": (128, 512), "fc.bias": (128,)}),  # MoCo v1
        ("module.encoder_q.", {"fc.0.weight": (512, 512), "fc.2.weight": (128, 512)}),  # MoCo v2
        ("module.base_encoder.", {"fc.0.weight": (4096, 512), "fc.3.weight": (256, 4096)}),  # MoCo v3
        ("module.encoder.", {"fc.0.weight": (512, 512), "fc.6.weight": (2048, 512)}),  # SimSiam
    ],
)
def test_projections_of_resnets_are_no_heads(tmp_path, body, prefix, heads):
    zeros = {key: torch.zeros(shape) for key, shape in heads.items()}
    torch.save({"state_dict": under(prefix, body | zeros)}, tmp_path / "w.pth")
    assert imported(tmp_path / "w.pth").head == ""


@pytest.mark.parametrize(
    "mlp", [{"mlp.0.weight": (2048, 384), "mlp.2.weight": (2048, 2048)}, {"mlp.weight": (256, 384)}]
)
def test_projections_of_dino_are_no_heads(tmp_path, vit, mlp):
    head = {**mlp, "last_layer.weight_g": (1000, 1), "last_layer.weight_v": (1000, 384)}
    zeros = under("head.", {key: torch.zeros(shape) for key, shape in head.items()})
    network = under("backbone.", vit) | zeros
    torch.save({"student": under("module.", network), "teacher": network}, tmp_path / "w.pth")
    assert imported(tmp_path / "w.pth", "vit_small_patch16").head == ""


@pytest.mark.parametrize("name", ["backbone.json", "segmenter.json"])
def test_our_own_weights_that_used_labels_must_be_allowed(tmp_path, name):
    encoder = build_encoder("resnet18", 8, seed=1)
    save_encoder(encoder, tmp_path, {})
    assert imported(tmp_path / "weights.safetensors").labelled_sidecar == ""
    (tmp_path / name).write_text(json.dumps({"labels_used": True}))
    with pytest.raises(InputError, match=rf"weights\.safetensors: {name} beside it says that labels were used"):
        imported(tmp_path / "weights.safetensors")
    report = imported(tmp_path / "weights.safetensors", allow=True)
    assert report.notes()["labelled_sidecar"] == name
    (tmp_path / name).write_text("{")
    with pytest.raises(InputError, match=rf"{name}: not JSON .*nobody knows whether labels were used"):
        imported(tmp_path / "weights.safetensors")


def test_a_sidecar_beside_weights_of_others_says_nothing(tmp_path, body):
    (tmp_path / "backbone.json").write_text(json.dumps({"labels_used": True}))
    torch.save(body, tmp_path / "w.pth")
    assert imported(tmp_path / "w.pth").labelled_sidecar == ""
