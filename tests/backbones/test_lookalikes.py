import pytest
import torch
import torchvision

from pipeline.backbones.encoder import build_encoder
from pipeline.backbones.importing import import_weights
from pipeline.errors import InputError


def without_memory(build) -> dict[str, torch.Tensor]:
    """State of a network by its keys and shapes alone: half a GB of random weights would say no more."""
    with torch.device("meta"):
        state = build(weights=None).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    ("build", "backbone", "expected"),
    [
        (torchvision.models.resnet34, "resnet18", r"16 blocks and resnet18 has 8, as in ResNet-34 .* 2 of stage 0"),
        (torchvision.models.resnet101, "resnet50", r"33 blocks and resnet50 has 16, as in ResNet-101 .* 6 of stage 2"),
        (torchvision.models.resnet152, "resnet50", r"50 blocks and resnet50 has 16, as in ResNet-152 "),
        (torchvision.models.convnext_small, "convnext_tiny", r"36 blocks .* as in ConvNeXt-S .* 9 of stage 2"),
    ],
)
def test_deeper_networks_are_refused_by_name(tmp_path, build, backbone, expected):
    state = {key: value for key, value in without_memory(build).items() if not key.startswith(("fc.", "classifier."))}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w\.pth: has {expected}"):
        import_weights(build_encoder(backbone, 8, seed=0), tmp_path / "w.pth", allow_supervised=True)


def test_a_deeper_vit_is_refused(tmp_path):
    encoder = build_encoder("vit_small_patch16", 8, seed=0)
    state = encoder.backbone.state_dict()
    last = {key.replace("stages.11.", "stages.12."): value for key, value in state.items() if "stages.11." in key}
    torch.save(state | last, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"13 blocks and vit_small_patch16 has 12, as in a deeper network"):
        import_weights(encoder, tmp_path / "w.pth", allow_supervised=False)
