import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import build_encoder
from pipeline.segmentation.cae.appearance import MIN_SPREAD, build_appearance, colour_map


def test_colours_are_area_means_standardised_over_the_image():
    images = torch.rand(2, 3, 8, 12)
    found = colour_map(images, (2, 3))
    for image, colours in zip(images, found, strict=True):
        means = torch.stack(
            [image[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean((1, 2)) for y in range(2) for x in range(3)]
        )
        centred = means - means.mean(0)
        expected = centred / max(float(centred.square().mean().sqrt()), MIN_SPREAD)
        torch.testing.assert_close(colours[:3].flatten(1).T, expected)
    assert torch.equal(found[:, 3], torch.ones(2, 2, 3))


def test_brightness_and_contrast_cancel():
    images = torch.rand(2, 3, 16, 16)
    images[:, :, :8] += 3
    torch.testing.assert_close(colour_map(1.7 * images - 0.4, (4, 4)), colour_map(images, (4, 4)))


def test_the_cosine_tells_shades_apart_and_a_plain_image_is_alike_all_over():
    shades = torch.linspace(-2, 2, 4).view(1, 1, 1, 4).expand(1, 3, 4, 4)
    units = F.normalize(colour_map(shades, (4, 4)), dim=1)[0, :, 0]
    cosines = (units.T @ units)[0]
    assert (cosines.diff() < -0.05).all()
    plain = F.normalize(colour_map(torch.full((1, 3, 8, 8), 0.3), (2, 2)), dim=1)
    torch.testing.assert_close(plain[0, :, 0, 0] @ plain[0, :, 1, 1], torch.tensor(1.0))


def test_the_frozen_copy_stays_as_it_was():
    encoder = build_encoder("resnet18", 8, seed=0)
    images, features = torch.rand(2, 3, 32, 32), torch.rand(2, 8, 8, 8)
    appearance = build_appearance("backbone", encoder)
    (before,) = appearance.train()(images, features)
    assert not any(part.training for part in appearance.modules())
    assert not any(parameter.requires_grad for parameter in appearance.parameters())
    assert not before.requires_grad
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.training
    encoder(images)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    assert torch.equal(appearance(images, features)[0], before)
    assert torch.equal(before, build_encoder("resnet18", 8, seed=0).eval()(images).detach())


def test_sources_give_their_maps():
    encoder = build_encoder("resnet18", 8, seed=0)
    images, features = torch.rand(2, 3, 32, 64), torch.rand(2, 8, 8, 16)
    assert build_appearance("features", encoder) is None
    for source, channels in {"rgb": [4], "backbone": [8], "features_rgb": [8, 4]}.items():
        maps = build_appearance(source, encoder)(images, features)
        assert [tuple(map_.shape) for map_ in maps] == [(2, c, 8, 16) for c in channels]
        if source == "features_rgb":
            assert maps[0] is features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (rough,) = build_appearance("rgb", encoder)(images, features)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, colour_map(images, (8, 16)))


@pytest.mark.parametrize("size", [(1, 1), (5, 3)])
def test_any_grid_will_do(size):
    assert colour_map(torch.rand(1, 3, 20, 12), size).isfinite().all()


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_than_rgb_are_told_apart_alike(channels):
    images = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    found = colour_map(images, (4, 4))
    assert found.shape == (2, channels + 1, 4, 4)
    assert torch.equal(found[:, -1], torch.ones(2, 4, 4))
    torch.testing.assert_close(colour_map(0.5 * images + 0.2, (4, 4)), found)
    # six levels of 255 are taken for noise in either scale
    faint = 0.5 + 0.001 * torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(colour_map(faint, (8, 8))[:, :-1].abs().max()) < 0.3
