import pytest
import torch
from torch import nn

from pipeline.backbones.encoder import build_encoder, load_encoder, save_encoder
from pipeline.backbones.inputs import StandardisingConv, fit_stem
from pipeline.runtime.artifacts import create_artifact, open_artifact

INPUTS = {
    "values": "uint16",
    "low": [0.0] * 4,
    "high": [9.0] * 4,
    "mean": [0.1, 0.3, 0.5, 0.7],
    "std": [0.1, 0.2, 0.3, 0.1],
}


def test_the_stem_sees_standardised_channels_and_pads_with_their_mean():
    torch.manual_seed(0)
    mean, std = torch.tensor([0.2, 0.6]), torch.tensor([0.1, 0.3])
    stem = StandardisingConv(nn.Conv2d(3, 5, 3, stride=2, padding=1), mean.tolist(), std.tolist())
    images = torch.rand(2, 2, 8, 8)
    standard = (images - mean[:, None, None]) / std[:, None, None]
    expected = nn.functional.conv2d(standard, stem.weight, stem.bias, stride=2, padding=1)
    torch.testing.assert_close(stem(images), expected)
    assert set(stem.state_dict()) == {"weight", "bias"}
    plain = mean[None, :, None, None].expand(1, 2, 8, 8)
    torch.testing.assert_close(stem(plain), torch.zeros(1, 5, 4, 4), atol=1e-5, rtol=0)


def test_the_weights_are_as_strong_as_those_that_they_replace():
    torch.manual_seed(0)
    old = nn.Conv2d(3, 64, 7)
    new = StandardisingConv(old, [0.5] * 12, [0.2] * 12)
    strengths = [float(stem.weight.detach().square().sum((1, 2, 3)).mean()) for stem in (old, new)]
    assert strengths[1] == pytest.approx(strengths[0], rel=0.1)


def test_an_encoder_of_four_channels_is_loaded_as_it_was_saved(tmp_path):
    encoder = build_encoder("resnet18", 8, seed=3, inputs=INPUTS).eval()
    images = torch.rand(1, 4, 64, 32)
    assert encoder.architecture == {"backbone": "resnet18", "channels": 8, "inputs": INPUTS}
    assert isinstance(encoder.backbone.stem[0], StandardisingConv)
    with create_artifact(tmp_path / "out") as writer:
        save_encoder(encoder, writer.path, {})
    again = load_encoder(open_artifact(tmp_path / "out")).eval()
    with torch.no_grad():
        assert torch.equal(again(images), encoder(images))
        other = build_encoder("resnet18", 8, seed=3, inputs={**INPUTS, "mean": [0.5] * 4}).eval()
        assert not torch.equal(other(images), encoder(images))


def test_rgb_is_left_alone():
    assert build_encoder("resnet18", 8, seed=3).architecture == {"backbone": "resnet18", "channels": 8}


def test_a_network_without_such_a_stem_is_a_mistake():
    with pytest.raises(ValueError, match="no convolution of three channels"):
        fit_stem(nn.Sequential(nn.Conv2d(4, 8, 3)), [0.5], [0.2])
    with pytest.raises(ValueError, match="not a stem"):
        StandardisingConv(nn.Conv2d(3, 3, 3, groups=3), [0.5], [0.2])
