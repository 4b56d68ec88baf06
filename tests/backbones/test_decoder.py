import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.decoder import STRIDES, PyramidDecoder, SimplePyramid, build_decoder


def maps_of(widths, side=16, batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, width, side >> i, (side + 8) >> i, generator=generator) for i, width in enumerate(widths)]


def test_stages_are_summed_from_coarse_to_fine():
    widths = (3, 4, 5)
    decoder = PyramidDecoder(widths, 6)
    maps = maps_of(widths)
    fine, middle, coarse = (lateral(map_) for lateral, map_ in zip(decoder.laterals, maps, strict=True))
    middle = middle + F.interpolate(coarse, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(decoder(maps), fine + F.interpolate(middle, scale_factor=2, mode="bilinear"))


def test_every_stage_gets_a_gradient():
    widths = (2, 3, 4, 5)
    decoder = PyramidDecoder(widths, 4)
    maps = [map_.requires_grad_() for map_ in maps_of(widths)]
    decoder(maps).square().sum().backward()
    assert all(map_.grad is not None and map_.grad.abs().sum() > 0 for map_ in maps)


def test_one_map_is_only_projected():
    decoder = PyramidDecoder((3,), 4)
    map_ = maps_of((3,))[0]
    torch.testing.assert_close(decoder([map_]), decoder.laterals[0](map_))


@pytest.mark.parametrize("stride", [8, 16])
def test_a_plain_map_is_spread_to_the_strides_of_a_pyramid(stride):
    pyramid = SimplePyramid(16, stride)
    map_ = torch.rand(2, 16, 64 // stride, 96 // stride)
    maps = pyramid(map_)
    assert [tuple(made.shape[1:]) for made in maps] == [
        (width, 64 // wanted, 96 // wanted) for width, wanted in zip(pyramid.widths, STRIDES, strict=True)
    ]
    assert pyramid.widths == tuple(16 * wanted // stride if wanted < stride else 16 for wanted in STRIDES)
    assert torch.equal(maps[STRIDES.index(stride)], map_)


def test_the_decoder_of_a_plain_map_is_both_one_after_the_other():
    decoder = build_decoder((16,), (16,), 4)
    map_ = torch.rand(1, 16, 4, 2)
    decoded = decoder([map_])
    assert decoded.shape == (1, 4, 16, 8)
    assert torch.equal(decoded, decoder.merge(decoder.pyramid(map_)))
    decoded.square().sum().backward()
    assert all(weight.grad is not None for weight in decoder.parameters())
