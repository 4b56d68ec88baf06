import pytest
import torch
import torchvision

from pipeline.backbones.resnet import ResNet, build_resnet18, build_resnet50


@pytest.mark.parametrize(
    ("build", "widths"), [(build_resnet18, (64, 128, 256, 512)), (build_resnet50, (256, 512, 1024, 2048))]
)
def test_stages_have_the_widths_and_strides_that_they_say(build, widths):
    net = build()
    assert net.widths == widths
    with torch.no_grad():
        maps = net(torch.rand(2, 3, 64, 96))
    assert len(maps) == 4
    for map_, width, stride in zip(maps, net.widths, net.strides, strict=True):
        assert map_.shape == (2, width, 64 // stride, 96 // stride)


def test_the_last_map_is_that_of_torchvision():
    plain = torchvision.models.resnet18(weights=None).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pooled = ResNet(plain).eval()(images)[-1].mean((2, 3))
        torch.testing.assert_close(plain.fc(pooled), plain(images))


def test_weights_are_random_and_never_fetched(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    one, two = build_resnet18(), build_resnet18()
    assert not torch.equal(one.stem[0].weight, two.stem[0].weight)
