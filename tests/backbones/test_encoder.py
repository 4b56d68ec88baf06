import json
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.backbones.encoder import (
    BACKBONES,
    PATCHES,
    build_encoder,
    load_encoder,
    load_weights,
    save_encoder,
    save_weights,
)
from pipeline.errors import InputError
from pipeline.runtime.artifacts import create_artifact, open_artifact


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("resnet18", 8, seed=3).eval()


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    states = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in states)


def test_weights_follow_the_seed_and_nothing_else(encoder):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = build_encoder("resnet18", 8, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(encoder, again)
    assert not same(encoder, build_encoder("resnet18", 8, seed=4))


def test_named_maps_are_those_of_the_network(encoder):
    images = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        maps = {name: encoder.forward_map(images, name) for name in ("res4", "res5", "last", "decoder")}
        assert torch.equal(maps["decoder"], encoder(images))
        assert torch.equal(maps["res4"], encoder.backbone(images)[2])
    assert torch.equal(maps["last"], maps["res5"])
    assert maps["decoder"].shape == (1, 8, 16, 8)
    assert maps["res5"].shape == (1, 512, 2, 1)
    assert all(encoder.map_width(name) == map_.shape[1] for name, map_ in maps.items())


@pytest.mark.parametrize("backbone", [*BACKBONES, *PATCHES])
def test_every_backbone_decodes_to_stride_four_and_is_loaded_as_it_was_saved(backbone, tmp_path):
    one = build_encoder(backbone, 8, seed=0).eval()
    with create_artifact(tmp_path / "out") as writer:
        save_encoder(one, writer.path, {})
    two = load_encoder(open_artifact(tmp_path / "out")).eval()
    images = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert one(images).shape == (1, 8, 8, 16)
        assert torch.equal(one(images), two(images))


def test_a_vit_keeps_what_its_map_holds_and_refuses_the_maps_of_a_resnet(tmp_path):
    one = build_encoder("vit_small_patch16", 8, seed=0, vit_features="key")
    with create_artifact(tmp_path / "out") as writer:
        save_encoder(one, writer.path, {})
    assert load_encoder(open_artifact(tmp_path / "out")).backbone.features == "key"
    assert one.map_width("last") == 384
    with pytest.raises(InputError, match=r"extract\.source: res5 is no map of vit_small_patch16, which has last; give"):
        one.forward_map(torch.rand(1, 3, 32, 32), "res5")


def test_what_is_saved_is_loaded_bit_for_bit(encoder, tmp_path):
    with create_artifact(tmp_path / "out") as writer:
        save_encoder(encoder.to(memory_format=torch.channels_last), writer.path, {"method": "none"})
    artifact = open_artifact(tmp_path / "out")
    assert same(load_encoder(artifact), encoder)
    sidecar = artifact.json("backbone.json")
    assert sidecar == {
        "architecture": {"backbone": "resnet18", "channels": 8},
        "labels_used": False,
        "method": "none",
    }
    save_weights(build_encoder("resnet18", 8, seed=3), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == artifact.file("weights.safetensors").read_bytes()


def test_saved_weights_are_plain_safetensors(tmp_path):
    module = torch.nn.Linear(2, 3)
    save_weights(module, tmp_path / "w.safetensors")
    loaded = load_file(tmp_path / "w.safetensors")
    assert torch.equal(loaded["weight"], module.weight)


def test_weights_of_another_network_are_refused_with_the_differences(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, path)
    with pytest.raises(InputError) as caught:
        load_weights(torch.nn.Linear(2, 3), path)
    message = str(caught.value)
    assert message.startswith(f"{path}: weights of another network (3 differences: ")
    for difference in ("missing bias", "unexpected extra", "weight: shape (3, 4) instead of (3, 2)"):
        assert difference in message


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x04cos\nsystem\n", bytes(200)])
def test_files_that_are_no_safetensors_are_refused(tmp_path, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"w\.safetensors: not a readable safetensors file .*dvc repro"):
        load_weights(torch.nn.Linear(2, 3), path)


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(torch.nn.Linear(20, 30), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_weights(torch.nn.Linear(20, 30), path)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_weights(torch.nn.Linear(20, 30), tmp_path / "gone.safetensors")


def test_weights_from_another_architecture_are_refused(encoder, tmp_path):
    with create_artifact(tmp_path / "out") as writer:
        save_encoder(encoder, writer.path, {})
        sidecar = json.loads((writer.path / "backbone.json").read_text())
        sidecar["architecture"]["channels"] = 16
        (writer.path / "backbone.json").write_text(json.dumps(sidecar))
    with pytest.raises(InputError, match=r"decoder\.laterals\.0\.bias: shape \(8,\) instead of \(16,\)"):
        load_encoder(open_artifact(tmp_path / "out"))


def test_a_full_disk_is_the_error_that_the_writer_explains(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(InputError, match="No space left"), create_artifact(disk / "out") as writer:
            save_weights(torch.nn.Linear(200, 300), writer.path / "w.safetensors")
    finally:
        subprocess.run(["umount", disk], check=True)
