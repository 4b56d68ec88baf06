import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.backbones.foreign import find_prefixes, name_layout, read_tensors
from pipeline.errors import InputError


class Payload:
    """What a malicious file holds: loading it would make a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


def test_tensors_are_found_however_deep_and_beside_whatever(tmp_path):
    path = tmp_path / "w.pth"
    saved = {
        "teacher": {"backbone.conv1.weight": torch.ones(2)},
        "args": argparse.Namespace(lr=0.1, sizes=[1, 2]),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
    }
    torch.save(saved, path)
    tensors = read_tensors(path)
    assert list(tensors) == ["teacher.backbone.conv1.weight", "optimizer.state.0.step"]
    assert torch.equal(tensors["teacher.backbone.conv1.weight"], torch.ones(2))


def test_safetensors_are_read_as_well(tmp_path):
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["conv1.weight"], torch.ones(2))


def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    made, path = tmp_path / "made", tmp_path / "w.pth"
    torch.save({"state_dict": {"conv1.weight": torch.ones(2)}, "extra": Payload(made)}, path)
    with pytest.raises(InputError, match=r"w\.pth: holds more than tensors.*could run any code; where you trust it"):
        read_tensors(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Payload(made)))
    with pytest.raises(InputError, match=r"plain\.pth: "):
        read_tensors(plain)
    assert not made.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("data", [b"", b"garbage", bytes(200)])
def test_damaged_files_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: "):
        read_tensors(tmp_path / name)


def test_missing_files_and_files_without_tensors_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.pth: no such file; pretrain\.checkpoint must name"):
        read_tensors(tmp_path / "gone.pth")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: holds no tensors"):
        read_tensors(tmp_path / "w.pth")


def test_prefixes_end_at_dots():
    names = ["module.encoder_q.conv1.weight", "module.encoder_q.layer1.0.conv1.weight", "oddconv1.weight", "x"]
    assert find_prefixes(names, "resnet") == ["module.encoder_q.", "module.encoder_q.layer1.0."]


@pytest.mark.parametrize(
    ("prefix", "names", "layout"),
    [
        ("module.encoder_q.", ["module.encoder_q.layer1.0.conv1.weight", "module.queue"], "MoCo"),
        ("module.base_encoder.", ["module.base_encoder.layer1.0.conv1.weight"], "MoCo v3"),
        ("state_dict.encoder_q.0.", ["state_dict.encoder_q.0.layer1.0.conv1.weight"], "DenseCL"),
        ("backbone.", ["backbone.layer1.0.conv1.weight", "neck.mlp.0.weight"], "DenseCL"),
        ("module.", ["module.layer1.0.conv1.weight", "module.prototypes.weight"], "SwAV"),
        ("teacher.backbone.", ["teacher.backbone.blocks.0.norm1.weight"], "DINO"),
        ("", ["mask_token", "blocks.0.ls1.gamma"], "DINOv2"),
        ("model.", ["model.blocks.0.norm1.weight", "model.decoder_blocks.0.norm1.weight", "model.mask_token"], "MAE"),
        ("", ["layer1.0.conv1.weight", "fc.weight"], "torchvision or timm"),
        ("", ["features.0.0.weight"], "torchvision"),
        ("", ["downsample_layers.0.0.weight"], "ConvNeXt"),
        ("", ["stages.0.blocks.0.conv_dw.weight"], "timm"),
        ("", ["blocks.0.norm1.weight"], "timm"),
        ("encoder.backbone.", ["encoder.backbone.stages.0.0.conv1.weight"], "FS4"),
        ("backbone.", ["backbone.stages.1.1.0.block.0.weight"], "FS4"),
        ("backbone.", ["backbone.stem.project.weight"], "FS4"),
    ],
)
def test_layouts_are_told_by_their_marks(prefix, names, layout):
    assert name_layout(prefix, names) == layout
