from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params import RefineParams, load_params
from pipeline.segmentation.mean_field import refine_scores

DEFAULT = load_params(Path(__file__).parents[2] / "params.yaml").evaluate.refine
PARAMS = DEFAULT.model_copy(update={"iterations": 3, "radius": 2, "dilation": 1})


def draw(k, h, w, seed=0):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(0, 0.2, (k, h, w)).astype(np.float32))
    return scores, torch.from_numpy(rng.integers(90, 140, (3, h, w), dtype=np.uint8))


def slow_mean_field(scores, image, params: RefineParams):
    """Mean field pixel by pixel and pair by pair, as the equations have it."""
    _, h, w = scores.shape
    pixels = [(y, x) for y in range(h) for x in range(w)]
    steps = range(-params.radius * params.dilation, params.radius * params.dilation + 1, params.dilation)

    def neighbours(y, x):
        places = [(y + dy, x + dx) for dy in steps for dx in steps if (dy, dx) != (0, 0)]
        return [place for place in places if 0 <= place[0] < h and 0 <= place[1] < w]

    def kernels(a, b):
        apart = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        unlike = sum((float(image[c][a]) - float(image[c][b])) ** 2 for c in range(3))
        near = np.exp(-apart / (2 * params.place_sigma**2))
        return near * np.exp(-unlike / (2 * params.colour_sigma**2)), near

    sums = {a: [sum(kernels(a, b)[m] for b in neighbours(*a)) for m in (0, 1)] for a in pixels}

    def weight(a, b):
        both = zip((params.colour_weight, params.place_weight), kernels(a, b), sums[a], sums[b], strict=True)
        return sum(each * kernel / np.sqrt(one * other) for each, kernel, one, other in both)

    unary = scores.double().numpy() / params.temperature
    beliefs = np.exp(unary - unary.max(0))
    beliefs /= beliefs.sum(0)
    for _ in range(params.iterations):
        updated = np.zeros_like(beliefs)
        for a in pixels:
            # energy of each cluster: what neighbours believe in others costs
            cost = -unary[:, *a] + sum(weight(a, b) * (1 - beliefs[:, *b]) for b in neighbours(*a))
            updated[:, *a] = np.exp(-(cost - cost.min()))
        beliefs = updated / updated.sum(0)
    return beliefs


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ((3, 6, 7), {}),
        ((2, 5, 5), {"radius": 1, "dilation": 2}),
        ((4, 3, 8), {"radius": 3}),
        ((2, 1, 9), {"radius": 2}),
        ((3, 6, 5), {"radius": 8, "place_weight": 0.0, "temperature": 1.0}),
        ((3, 4, 4), {"colour_weight": 0.0, "iterations": 1}),
    ],
)
def test_it_is_mean_field_pair_by_pair(size, changes):
    scores, image = draw(*size)
    params = PARAMS.model_copy(update=changes)
    found = refine_scores(scores, image, params)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), slow_mean_field(scores, image, params), atol=2e-6)
    assert (found - refine_scores(scores, image, params.model_copy(update={"iterations": 0}))).abs().max() > 1e-3


def test_without_iterations_the_scores_keep_their_order():
    scores, image = draw(4, 9, 8)
    found = refine_scores(scores, image, DEFAULT)
    assert DEFAULT.iterations == 0
    torch.testing.assert_close(found, (scores / DEFAULT.temperature).softmax(0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.permutations(range(4)))
def test_clusters_may_be_renamed_and_images_turned(seed, order):
    scores, image = draw(4, 5, 6, seed)
    found = refine_scores(scores, image, PARAMS)
    torch.testing.assert_close(found.sum(0), torch.ones(5, 6))
    torch.testing.assert_close(refine_scores(scores[list(order)], image, PARAMS), found[list(order)])
    turned = refine_scores(scores.flip(2).transpose(1, 2), image.flip(2).transpose(1, 2), PARAMS)
    torch.testing.assert_close(turned, found.flip(2).transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_noise_inside_a_region_goes_and_its_edge_stays():
    image = torch.full((3, 24, 24), 60, dtype=torch.uint8)
    image[:, :, 12:] = 180
    truth = (torch.arange(24) >= 12).long().expand(24, 24)
    scores = 0.1 * torch.nn.functional.one_hot(truth, 2).permute(2, 0, 1).float()
    scores += 0.1 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
    assert (scores.argmax(0) != truth).float().mean() > 0.1
    refined = refine_scores(scores, image, DEFAULT.model_copy(update={"iterations": 5})).argmax(0)
    assert (refined != truth).sum() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (40, 1)])
def test_tiny_images_and_clusters_that_no_pixel_can_have(size):
    scores, image = draw(3, *size)
    scores[1] = -1e30  # a cluster without prototypes
    found = refine_scores(scores, image, PARAMS)
    assert torch.isfinite(found).all()
    assert (found[1] == 0).all()
