import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pipeline.backbones.encoder import build_encoder, save_weights
from pipeline.backbones.importing import import_weights
from pipeline.errors import InputError
from pipeline.runtime.digests import file_digest

IMAGES = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


def without(state: dict, *beginnings: str) -> dict:
    return {key: value for key, value in state.items() if not key.startswith(beginnings)}


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def vit():
    timm = pytest.importorskip("timm.models.vision_transformer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return timm.VisionTransformer(
            img_size=224, patch_size=16, embed_dim=384, num_heads=6, num_classes=0, dynamic_img_size=True
        ).eval()


def imported(path, backbone="resnet18", allow=False):
    encoder = build_encoder(backbone, 8, seed=0).eval()
    report = import_weights(encoder, path, allow_supervised=allow)
    with torch.no_grad():
        return encoder, report, encoder.backbone(IMAGES)[-1]


def last_of_resnet(net):
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(IMAGES))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def last_of_vit(net):
    with torch.no_grad():
        return net.forward_features(IMAGES)[:, 1:].transpose(1, 2).unflatten(2, (4, 2))


def other(state: dict) -> dict:
    """A second network of the same shapes."""
    return {key: value + 1 for key, value in state.items()}


def resnet_layouts(body: dict) -> dict[str, tuple[dict, str]]:
    mlp = {"fc.0.weight": torch.zeros(512, 512), "fc.2.weight": torch.zeros(128, 512)}
    one_layer = {"fc.weight": torch.zeros(128, 512), "fc.bias": torch.zeros(128)}
    heads = {"projection_head.0.weight": torch.zeros(2, 512), "prototypes.weight": torch.zeros(3, 2)}
    neck = {"neck.mlp.0.weight": torch.zeros(2, 512), "queue": torch.zeros(2, 3)}
    return {
        "torchvision": (body, "torchvision or timm"),
        "moco": (
            {
                "arch": "resnet18",
                "state_dict": under("module.encoder_k.", other(body)) | under("module.encoder_q.", {**body, **mlp}),
                "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]},
            },
            "MoCo",
        ),
        "moco v1": ({"state_dict": under("module.encoder_q.", {**body, **one_layer})}, "MoCo"),
        "moco v3": (
            {"state_dict": under("module.momentum_encoder.", other(body)) | under("module.base_encoder.", body)},
            "MoCo v3",
        ),
        "densecl": (
            {"state_dict": under("encoder_k.0.", other(body)) | under("encoder_q.0.", body) | under("backbone.", body)},
            "DenseCL",
        ),
        "densecl of mmselfsup": ({"state_dict": under("backbone.", body) | neck}, "DenseCL"),
        "swav": (under("module.", {**body, **heads}), "SwAV"),
        "dino": (
            {"student": under("module.backbone.", other(body)), "teacher": under("backbone.", body), "epoch": 3},
            "DINO",
        ),
    }


NAMES = list(resnet_layouts({}))


@pytest.mark.parametrize("name", NAMES)
def test_a_resnet_in_every_layout_computes_what_it_did(tmp_path, resnet, name):
    saved, layout = resnet_layouts(without(resnet.state_dict(), "fc."))[name]
    torch.save(saved, tmp_path / "w.pth")
    _, report, last = imported(tmp_path / "w.pth")
    assert torch.equal(last, last_of_resnet(resnet))
    assert (report.layout, report.share, report.missing, report.head) == (layout, 1.0, [], "")
    assert report.sha256 == file_digest(tmp_path / "w.pth")
    assert report.tensors == 100


def vit_layouts(body: dict) -> dict[str, tuple[dict, str]]:
    decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_embed.weight": torch.zeros(4, 384)}
    chunks = {
        key.replace("blocks.", f"blocks.{int(key.split('.')[1]) // 4}.") if "blocks." in key else key: value
        for key, value in body.items()
    }
    scale = torch.full((384,), 0.5)
    unscaled = {
        key: value * 2 if ".attn.proj." in key or ".mlp.fc2." in key else value for key, value in chunks.items()
    }
    scales = {f"blocks.{i // 4}.{i}.ls{j}.gamma": scale for i in range(12) for j in (1, 2)}
    return {
        "timm": (body, "timm"),
        "dino": (
            {"student": under("module.backbone.", other(body)), "teacher": under("backbone.", body)},
            "DINO",
        ),
        "dinov2": (
            {"teacher": under("backbone.", {**unscaled, **scales, "mask_token": torch.zeros(1, 384)})},
            "DINOv2",
        ),
        "mae": ({"model": {**body, **decoder}}, "MAE"),
    }


@pytest.mark.parametrize("name", list(vit_layouts({})))
def test_a_vit_in_every_layout_computes_what_it_did(tmp_path, vit, name):
    saved, layout = vit_layouts(vit.state_dict())[name]
    torch.save(saved, tmp_path / "w.pth")
    _, report, last = imported(tmp_path / "w.pth", "vit_small_patch16")
    torch.testing.assert_close(last, last_of_vit(vit), atol=1e-5, rtol=1e-5)
    assert (report.layout, report.share, report.missing, report.head) == (layout, 1.0, [], "")
    assert report.tensors == 150


def test_the_patches_and_positions_of_dinov2_are_resized(tmp_path, vit):
    state = dict(vit.state_dict())
    state["patch_embed.proj.weight"] = torch.rand(384, 3, 14, 14)
    state["pos_embed"] = torch.rand(1, 1 + 37 * 37, 384)
    save_file(state, tmp_path / "w.safetensors")
    encoder, report, _ = imported(tmp_path / "w.safetensors", "vit_small_patch16")
    assert sorted(report.adapted) == [
        "stem.positions: from shape (1, 1370, 384)",
        "stem.project.weight: from shape (384, 3, 14, 14)",
    ]
    assert report.share == 1.0
    assert torch.equal(encoder.backbone.stem.positions[:, 0], state["pos_embed"][:, 0])


def timm_names(key: str) -> str | None:
    """torchvision's names of ConvNeXt as timm has them; written out by hand, and not by regular expressions."""
    parts = key.split(".")
    if parts[0] != "features":
        return None
    layer = int(parts[1])
    if layer == 0:
        return ".".join(["stem", *parts[2:]])
    if layer % 2 == 0:
        return ".".join(["stages", str(layer // 2), "downsample", *parts[2:]])
    if parts[3] == "layer_scale":
        return f"stages.{layer // 2}.blocks.{parts[2]}.gamma"
    inner = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}[parts[4]]
    return ".".join(["stages", str(layer // 2), "blocks", parts[2], inner, *parts[5:]])


def author_names(key: str) -> str | None:
    name = timm_names(key)
    if name is None:
        return None
    if name.startswith("stem."):
        return name.replace("stem.", "downsample_layers.0.")
    if ".downsample." in name:
        _, stage, _, *rest = name.split(".")
        return ".".join(["downsample_layers", stage, *rest])
    for one, two in ((".blocks", ""), ("conv_dw", "dwconv"), ("mlp.fc1", "pwconv1"), ("mlp.fc2", "pwconv2")):
        name = name.replace(one, two)
    return name


@pytest.mark.parametrize(
    ("rename", "layout"), [(lambda key: key, "torchvision"), (timm_names, "timm"), (author_names, "ConvNeXt")]
)
def test_a_convnext_in_every_layout_computes_what_it_did(tmp_path, rename, layout):
    net = torchvision.models.convnext_tiny(weights=None, layer_scale=1.0).eval()
    body = without(net.state_dict(), "classifier.")
    saved = {rename(key): value.flatten() if "layer_scale" in key else value for key, value in body.items()}
    torch.save({"model": saved}, tmp_path / "w.pth")
    _, report, last = imported(tmp_path / "w.pth", "convnext_tiny")
    with torch.no_grad():
        assert torch.equal(last, net.features(IMAGES))
    assert (report.layout, report.share) == (layout, 1.0)
    timm = pytest.importorskip("timm")
    if layout == "timm":
        assert set(saved) == set(without(timm.create_model("convnext_tiny", pretrained=False).state_dict(), "head."))


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_small_patch16"])
def test_our_own_weights_bring_their_decoder(tmp_path, backbone):
    start = build_encoder(backbone, 8, seed=5).eval()
    save_weights(start, tmp_path / "w.safetensors")
    encoder, report, _ = imported(tmp_path / "w.safetensors", backbone)
    with torch.no_grad():
        assert torch.equal(encoder(IMAGES), start(IMAGES))
    assert (report.layout, report.decoder, report.prefix) == ("FS4", True, "backbone.")
    other_width = build_encoder(backbone, 16, seed=0).eval()
    before = [weight.clone() for weight in other_width.decoder.parameters()]
    assert not import_weights(other_width, tmp_path / "w.safetensors", allow_supervised=False).decoder
    assert all(map(torch.equal, other_width.decoder.parameters(), before))


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict."])
def test_a_classification_head_must_be_allowed_and_is_recorded(tmp_path, resnet, prefix):
    torch.save(under(prefix, resnet.state_dict()), tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"fc\.weight with 1000 rows is of a head that is trained with labels.*allow_supervised_init"
    ):
        imported(tmp_path / "w.pth")
    _, report, last = imported(tmp_path / "w.pth", allow=True)
    assert torch.equal(last, last_of_resnet(resnet))
    assert report.head == f"{prefix}fc.weight with 1000 rows"
    assert report.notes()["allow_supervised_init"] is True
    assert report.lines()[-1].startswith("stamped as not fully self-supervised")


def test_too_few_matching_tensors_are_refused_with_the_first_differences(tmp_path, resnet):
    body = without(resnet.state_dict(), "fc.")
    torch.save(without(body, "layer4.1"), tmp_path / "w.pth")
    expected = r"fills only 90 of 100 tensors \(90\.0%\) of resnet18, 95% are needed \(missing stages\.3\.1\.bn1\.bias"
    with pytest.raises(InputError, match=expected):
        imported(tmp_path / "w.pth")
    wide = {key: torch.cat([value, value]) if value.ndim else value for key, value in body.items()}
    torch.save(wide, tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"stem\.0\.weight: shape \(128, 3, 7, 7\) instead of \(64, 3, 7, 7\)"):
        imported(tmp_path / "wide.pth")


def test_a_few_missing_tensors_are_reported_and_stay_as_they_were(tmp_path, resnet):
    torch.save(without(resnet.state_dict(), "fc.", "layer4.1.bn2"), tmp_path / "w.pth")
    encoder, report, _ = imported(tmp_path / "w.pth")
    assert report.share == 0.96
    assert report.missing == [f"stages.3.1.bn2.{key}" for key in ("bias", "running_mean", "running_var", "weight")]
    assert torch.equal(encoder.backbone.stages[3][1].bn2.weight, torch.ones(512))
    assert any(line.startswith("missing: stages.3.1.bn2.bias") for line in report.lines())


def test_weights_of_another_kind_of_network_are_refused(tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: has no weights of convnext_tiny; none of its 122 keys"):
        imported(tmp_path / "w.pth", "convnext_tiny")


def test_values_that_are_not_finite_are_refused(tmp_path, resnet):
    body = without(resnet.state_dict(), "fc.")
    torch.save(body | {"bn1.weight": torch.full((64,), float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"stem\.1\.weight has values that are not finite"):
        imported(tmp_path / "w.pth")


def test_of_a_segmenter_the_trained_network_is_taken_and_not_its_frozen_start(tmp_path):
    start, trained = (build_encoder("resnet18", 8, seed=seed).state_dict() for seed in (1, 2))
    save_file(under("appearance.encoder.", start) | under("encoder.", trained), tmp_path / "w.safetensors")
    encoder, report, _ = imported(tmp_path / "w.safetensors")
    assert report.prefix == "encoder.backbone."
    assert all(torch.equal(value, trained[key]) for key, value in encoder.state_dict().items())


def test_vits_that_only_look_alike_are_refused(tmp_path, vit):
    torch.save({"state_dict": under("module.base_encoder.", vit.state_dict())}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="MoCo v3 has 12 heads"):
        imported(tmp_path / "w.pth", "vit_small_patch16")
    torch.save({**vit.state_dict(), "register_tokens": torch.zeros(1, 4, 384)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="has register_tokens, and vit_small_patch16 has no registers"):
        imported(tmp_path / "w.pth", "vit_small_patch16")
