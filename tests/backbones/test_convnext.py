import torch
import torchvision

from pipeline.backbones.convnext import ConvNeXt, build_convnext_tiny


def test_stages_have_the_widths_and_strides_that_they_say():
    net = build_convnext_tiny()
    assert net.widths == (96, 192, 384, 768)
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 32))
    assert len(maps) == 4
    for map_, width, stride in zip(maps, net.widths, net.strides, strict=True):
        assert map_.shape == (1, width, 64 // stride, 32 // stride)


def test_the_last_map_is_that_of_torchvision():
    plain = torchvision.models.convnext_tiny(weights=None).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ConvNeXt(plain).eval()(images)[-1], plain.features(images))


def test_training_draws_nothing_from_the_global_generator():
    net = build_convnext_tiny().train()
    state = torch.random.get_rng_state()
    net(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)
