import pytest
import torch
from torch import nn

from pipeline.backbones.encoder import BACKBONES, PATCHES, build_encoder
from pipeline.backbones.folding import fold_norms

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backbone", [*BACKBONES, *PATCHES])
def test_a_folded_network_computes_the_same(backbone):
    encoder = build_encoder(backbone, 16, seed=0)
    with torch.no_grad():
        for _ in range(20):
            encoder.train()(IMAGES)  # statistics that are not those of a new network
        for norm in (module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
        folded = fold_norms(encoder)
        assert encoder.training
        assert not folded.training
        expected = encoder.eval()(IMAGES)
        assert expected.std() > 0.01
        torch.testing.assert_close(folded(IMAGES), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_no_norm_of_a_resnet_is_left(backbone):
    encoder = build_encoder(backbone, 16, seed=0)
    before = [name for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert before
    folded = fold_norms(encoder)
    assert not [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert before == [name for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d)]
