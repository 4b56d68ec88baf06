import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import apply_geometric, apply_photometric, draw_geometric, draw_photometric, normalise
from pipeline.segmentation.two_views import embed_views, make_views, view_distance

BATCH = [4, 0, 2]
CPU = torch.device("cpu")


def test_view_2_is_cut_after_the_network_like_view_1_before(trainee, images):
    toy = trainee()
    toy.segmenter.eval()
    params, seed = toy.params, toy.params.seed
    views = make_views(images[BATCH], BATCH, 3, params, CPU)
    frames = images[BATCH].float() / 255
    crop = draw_geometric(seed, "train crop", 3, BATCH, min_area=params.views.min_area, flip=params.views.flip)
    jitter = {"jitter": params.views.jitter, "hue": params.views.hue}
    one, two = (
        apply_photometric(frames, draw_photometric(seed, f"train colours {v}", 3, BATCH, **jitter)) for v in (1, 2)
    )
    assert torch.equal(views.first, normalise(apply_geometric(one, crop, (32, 32))))
    assert torch.equal(views.second, normalise(two))
    with torch.no_grad():
        embedded = embed_views(toy.segmenter, views, "fp32")
        whole = toy.segmenter.embed(views.second)
        torch.testing.assert_close(embedded.one, toy.segmenter.embed(views.first), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embedded.whole, whole, atol=1e-5, rtol=1e-4)
    cut = F.normalize(apply_geometric(embedded.whole, crop, (8, 8)), dim=1)
    torch.testing.assert_close(embedded.two, cut)
    assert len(embedded.pixels()) == 2


def test_view_1_does_without_view_2(trainee, images):
    toy = trainee()
    toy.segmenter.eval()
    both = make_views(images[BATCH], BATCH, 0, toy.params, CPU)
    alone = make_views(images[BATCH], BATCH, 0, toy.params, CPU, second=False)
    assert alone.second is None
    assert torch.equal(alone.first, both.first)
    with torch.no_grad():
        embedded = embed_views(toy.segmenter, alone, "fp32")
        expected = embed_views(toy.segmenter, both, "fp32").one
    torch.testing.assert_close(embedded.one, expected, atol=1e-5, rtol=1e-4)
    assert embedded.two is embedded.whole is None
    assert len(embedded.pixels()) == 1


def test_the_distance_of_views_is_a_mean_over_pixels():
    one, two = F.normalize(torch.randn(2, 2, 5, 3, 4, generator=torch.Generator().manual_seed(0)), dim=2)
    slow = [(one[b, :, y, x] - two[b, :, y, x]).norm() ** 2 for b in range(2) for y in range(3) for x in range(4)]
    torch.testing.assert_close(view_distance(one, two), torch.stack(slow).mean())
    assert view_distance(one, -one).item() == pytest.approx(4)
