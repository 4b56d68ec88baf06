import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.pretext.colorization import (
    KEPT,
    Colorization,
    colour_bins,
    colour_loss,
    rarity_weights,
    spread_colours,
    to_lab,
)
from tests.pretext.conftest import assert_teaches_as, settings, sharpened, tiny_encoder, view_batch

# sRGB in 0..255 and CIELAB under D65, from the usual tables
KNOWN = [
    ((255, 255, 255), (100.0, 0.0, 0.0)),
    ((0, 0, 0), (0.0, 0.0, 0.0)),
    ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 255, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 255), (32.30, 79.19, -107.86)),
    ((119, 119, 119), (50.03, 0.0, 0.0)),
]


@pytest.mark.parametrize(("rgb", "lab"), KNOWN)
def test_known_colours_have_their_lab_values(rgb, lab):
    image = torch.tensor(rgb).view(1, 3, 1, 1).expand(-1, -1, 2, 3) / 255
    found = to_lab(image)
    assert found.shape == (1, 3, 2, 3)
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor(lab), atol=0.05, rtol=0)


def test_bins_cover_what_srgb_shows():
    bins = colour_bins()
    assert bins.shape == (313, 2)  # as published
    assert torch.equal(torch.unique(bins, dim=0), bins)
    assert torch.equal(bins, (bins / 10).round() * 10)
    colours = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    lab = to_lab(colours.T[None, :, :, None])[0, 1:, :, 0].T
    assert torch.cdist(lab, bins).min(1).values.max() <= 10 / 2**0.5
    assert torch.cdist(lab, bins).min(0).values.max() < 20  # and no bin lies far from what it shows


def test_the_truth_is_spread_over_the_nearest_bins():
    bins = colour_bins()
    colours = torch.tensor([[3.0, -4.0], [60.0, 41.0]])
    nearest, shares = spread_colours(colours, bins)
    for row, colour in enumerate(colours.double().numpy()):
        distance = np.linalg.norm(bins.double().numpy() - colour, axis=1)
        order = np.argsort(distance, kind="stable")[:5]
        weight = np.exp(-(distance[order] ** 2) / 50)
        np.testing.assert_allclose(np.sort(shares[row]), np.sort(weight / weight.sum()), atol=1e-4)
        assert nearest[row, 0] == order[0]


def test_rare_colours_weigh_more_and_the_mean_weight_is_1():
    frequency = torch.tensor([0.7, 0.2, 0.1, 0.0])
    weights = rarity_weights(frequency)
    plain = [1 / (0.5 * share + 0.5 / 4) for share in (0.7, 0.2, 0.1, 0.0)]
    mean = sum(share * weight for share, weight in zip((0.7, 0.2, 0.1, 0.0), plain, strict=True))
    torch.testing.assert_close(weights, torch.tensor([weight / mean for weight in plain]))
    assert 0 < KEPT < 1


def test_the_loss_is_the_weighted_cross_entropy_with_the_spread_truth():
    rng = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(3, 7, generator=rng), torch.rand(7, generator=rng)
    nearest = torch.stack([torch.randperm(7, generator=rng)[:5] for _ in range(3)])
    shares = torch.rand(3, 5, generator=rng).softmax(1)
    total = 0.0
    for row in range(3):
        chances = logits[row].double().softmax(0)
        told = sum(float(shares[row, i]) * float(chances[nearest[row, i]].log()) for i in range(5))
        total -= float(weights[nearest[row, 0]]) * told
    assert colour_loss(logits, nearest, shares, weights).item() == pytest.approx(total / 3, rel=1e-5)


def build() -> Colorization:
    return Colorization(tiny_encoder(), settings(method="colorization", channels=8))


def test_the_colours_of_each_place_are_told_from_the_lightness():
    model, batch = sharpened(build()), view_batch(2)
    model.frequency.copy_(torch.rand(len(model.bins), generator=torch.Generator().manual_seed(0)).softmax(0))
    weights, losses = rarity_weights(model.frequency), []
    for view in batch.plain:
        for image in view:
            lab = to_lab(image[None])
            light = lab[:, :1] / 100
            chances = model.classify(model.encoder(normalise(torch.cat([light, light, light], 1))))[0].softmax(0)
            colours = F.interpolate(lab[:, 1:], (8, 8), mode="bilinear", antialias=True)[0]
            for y in range(8):
                for x in range(8):
                    distance = (model.bins - colours[:, y, x]).norm(dim=1)
                    nearest = distance.argsort()[:5]
                    shares = torch.exp(-(distance[nearest] ** 2) / (2 * 5**2))
                    told = (shares / shares.sum() * chances[nearest, y, x].log()).sum()
                    losses.append(-weights[nearest[0]] * told)
    assert_teaches_as(model, model(batch)["loss"], torch.stack(losses).mean())


def test_the_network_sees_the_lightness_in_all_three_channels():
    model, batch = build().eval(), view_batch(2)
    seen = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(batch)
    plain = seen[0] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    plain = plain + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    torch.testing.assert_close(plain[:, 0], plain[:, 2])
    torch.testing.assert_close(plain[:, 0], to_lab(torch.cat(batch.plain))[:, 0] / 100)
