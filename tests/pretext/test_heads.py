import torch
from torch import nn

from pipeline.pretext.heads import mlp, pixel_mlp


def test_layers_stand_in_order():
    assert [type(layer) for layer in mlp([3, 4, 5, 6])] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
    normed = mlp([3, 4, 6], last_norm=True)
    rows = normed(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    assert rows.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(rows.std(0, unbiased=False), torch.ones(6), atol=1e-3, rtol=0)
    assert normed[-1].weight is None


def test_a_pixel_mlp_treats_places_alike():
    head = pixel_mlp(3, 4, 5, norm=True).eval()
    map_ = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(map_)[:, :, 1:, :1], head(map_[:, :, 1:, :1]))
