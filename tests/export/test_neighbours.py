import pytest
import torch
from torch import nn

from pipeline.data.views import normalise
from pipeline.export.graph import build_graph
from pipeline.export.neighbours import graph_nonlocal_mean, graph_window_mean
from pipeline.segmentation.cae.nonlocal_mean import nonlocal_mean
from pipeline.segmentation.cae.window import window_mean
from tests.export.conftest import make_segmenter


def maps(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(height)
    alike = torch.nn.functional.normalize(torch.randn(2, 3, height, width, generator=rng), dim=1)
    return torch.randn(2, 5, height, width, generator=rng), alike


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (3, 2), (2, 5)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (20, 17)])
def test_windows_are_those_of_training(height, width, radius, dilation, exclude_self):
    values, alike = maps(height, width)
    settings = {"radius": radius, "dilation": dilation, "sigma": 4.0, "temperature": 0.1, "exclude_self": exclude_self}
    expected = window_mean(values, alike=alike, **settings)
    assert torch.allclose(graph_window_mean(values, alike, *settings.values()), expected, atol=1e-5)


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (9, 8)])
def test_the_most_alike_are_those_of_training(height, width, exclude_self):
    values, alike = maps(height, width)
    settings = {"top": 7, "sigma": 4.0, "temperature": 0.1, "exclude_self": exclude_self}
    expected = nonlocal_mean(values, alike=alike, **settings)
    assert torch.allclose(graph_nonlocal_mean(values, alike, *settings.values()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "cae",
    [
        {},
        {"enabled": False},
        {"scales": [1, 2]},
        {"mix": "fixed"},
        {"neighbourhood": "nonlocal"},
        {"fixed_temperature": False},
        {"appearance": "rgb"},
        {"appearance": "features_rgb"},
        {"appearance": "backbone"},
    ],
    ids=str,
)
def test_the_graph_scores_as_the_segmenter(cae):
    segmenter = make_segmenter(**cae)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = nn.functional.interpolate(segmenter(normalise(images)), (64, 96), mode="bilinear")
        assert torch.allclose(build_graph(segmenter, "logits")(images), expected, atol=1e-4)
        assert torch.equal(build_graph(segmenter, "labels")(images), build_graph(segmenter, "logits")(images).argmax(1))
