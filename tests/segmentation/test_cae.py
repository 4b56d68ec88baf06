import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.segmentation.cae import BAND, ContextAwareEmbedding, neighbour_mean


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_mean(values, appearance, radius, dilation, sigma, temperature):
    """The definition, neighbour by neighbour, in float64."""
    values, appearance = values.double().numpy(), appearance.double().numpy()
    batch, _, height, width = values.shape
    result = np.zeros_like(values)
    unit = appearance / np.maximum(np.linalg.norm(appearance, axis=1, keepdims=True), 1e-12)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                logits, rows = [], []
                for dy in range(-radius, radius + 1):
                    for dx in range(-radius, radius + 1):
                        v, u = y + dilation * dy, x + dilation * dx
                        if (dy, dx) == (0, 0) or not (0 <= v < height and 0 <= u < width):
                            continue
                        squared = dilation**2 * (dy**2 + dx**2)
                        logits.append(unit[b, :, y, x] @ unit[b, :, v, u] / temperature - squared / (2 * sigma**2))
                        rows.append(values[b, :, v, u])
                if rows:
                    weights = np.exp(np.array(logits) - max(logits))
                    result[b, :, y, x] = weights / weights.sum() @ np.array(rows)
    return result


def check(values, appearance, radius, dilation, sigma, temperature):
    settings = {"radius": radius, "dilation": dilation, "sigma": sigma, "temperature": temperature}
    found = neighbour_mean(values, appearance=appearance, **settings)
    assert found.shape == values.shape
    expected = slow_mean(values, appearance, radius, dilation, sigma, temperature)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("height", "width", "radius", "dilation"),
    [
        (1, 1, 1, 1),
        (2, 5, 2, 2),
        (5, 2, 1, 3),
        (7, 9, 3, 2),
        (8, 8, 3, 2),
        (BAND + 3, 4, 2, 1),
        (2 * BAND + 5, 3, 3, 1),
        (2 * BAND + 3, 3, 3, 2),
        (6, 6, 9, 1),
    ],
)
def test_it_is_the_definition(height, width, radius, dilation):
    check(maps(2, 3, height, width), maps(2, 4, height, width, seed=1), radius, dilation, 4.0, 0.1)


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    radius=st.integers(1, 3),
    dilation=st.integers(1, 4),
    sigma=st.floats(0.5, 10),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 100),
)
def test_it_is_the_definition_for_any_shape(height, width, radius, dilation, sigma, temperature, seed):
    shape = (1, 2, height, width)
    check(maps(*shape, seed=seed), maps(*shape, seed=seed + 1), radius, dilation, sigma, temperature)


def test_pixels_without_neighbours_get_nothing():
    settings = {"radius": 3, "dilation": 2, "sigma": 4.0, "temperature": 0.1}
    for height, width in [(1, 1), (2, 2), (1, 2)]:
        values = maps(1, 3, height, width)
        assert not neighbour_mean(values, appearance=values, **settings).any()


def test_a_pixel_is_not_its_own_neighbour():
    settings = {"radius": 2, "dilation": 1, "sigma": 4.0, "temperature": 0.1}
    values, appearance = maps(1, 3, 5, 5), maps(1, 3, 5, 5, seed=1)
    changed = values.clone()
    changed[:, :, 2, 2] += 100
    before, after = (neighbour_mean(v, appearance=appearance, **settings) for v in (values, changed))
    torch.testing.assert_close(after[:, :, 2, 2], before[:, :, 2, 2])
    assert (after - before).abs().sum(1)[0].gt(1e-6).sum() > 10


def test_likeness_and_nearness_count():
    appearance = torch.zeros(1, 2, 5, 5)
    appearance[:, 0] = 1
    appearance[:, :, :, 3:] = torch.tensor([0.0, 1.0])[None, :, None, None]
    values = torch.zeros(1, 1, 5, 5)
    values[..., 3:] = 1
    settings = {"radius": 2, "dilation": 1, "sigma": 4.0}
    sharp = neighbour_mean(values, appearance=appearance, temperature=0.05, **settings)
    assert sharp[0, 0, 2, 2] < 1e-4
    assert sharp[0, 0, 2, 3] > 1 - 1e-4
    near = neighbour_mean(
        values, appearance=torch.ones_like(appearance), radius=2, dilation=1, sigma=0.3, temperature=1.0
    )
    assert near[0, 0, 2, 2] == pytest.approx(0.25, abs=0.01)


def test_bfloat16_is_close_to_fp32():
    values, appearance = maps(1, 8, 9, 7), maps(1, 8, 9, 7, seed=1)
    settings = {"radius": 3, "dilation": 2, "sigma": 4.0, "temperature": 0.1}
    exact = neighbour_mean(values, appearance=appearance, **settings)
    rough = neighbour_mean(values.bfloat16(), appearance=appearance, **settings)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.03
    assert (rough.float() - exact).abs().max() < 0.3


def embedding(gamma: float = 0.5) -> ContextAwareEmbedding:
    torch.manual_seed(0)
    return ContextAwareEmbedding(6, radius=2, dilation=2, sigma=4.0, temperature=0.1, gamma=gamma)


def test_the_embedding_is_the_formula():
    module, features = embedding(), maps(2, 6, 7, 5)
    transformed = module.transform(features).detach()
    context = torch.from_numpy(slow_mean(transformed, features, 2, 2, 4.0, 0.1)).float()
    normed = (context - context.mean((0, 2, 3), keepdim=True)) / (
        context.var((0, 2, 3), unbiased=False, keepdim=True) + module.norm.eps
    ).sqrt()
    expected = F.normalize(features + 0.5 * normed, dim=1)
    torch.testing.assert_close(module(features).detach(), expected, atol=1e-3, rtol=0)


def test_with_gamma_0_it_is_plain_normalisation_and_gamma_still_learns():
    module, features = embedding(gamma=0.0), maps(2, 6, 7, 5)
    embedded = module(features)
    torch.testing.assert_close(embedded, F.normalize(features, dim=1))
    (embedded * maps(2, 6, 7, 5, seed=1)).sum().backward()
    assert module.gamma.grad.abs() > 1e-3


def test_affinities_carry_no_gradient():
    module, features = embedding(), maps(1, 6, 6, 6)
    weights = maps(1, 6, 6, 6, seed=1)
    settings = {"radius": 2, "dilation": 2, "sigma": 4.0, "temperature": 0.1}
    free = features.clone().requires_grad_()
    (module(free) * weights).sum().backward()
    # the same with affinities that are constants by construction
    copy = features.clone().requires_grad_()
    context = neighbour_mean(module.transform(copy), appearance=features.clone(), **settings)
    (F.normalize(copy + module.gamma * module.norm(context), dim=1) * weights).sum().backward()
    torch.testing.assert_close(free.grad, copy.grad)
    through = features.clone().requires_grad_()
    context = neighbour_mean(module.transform(through), appearance=through, **settings)
    (F.normalize(through + module.gamma * module.norm(context), dim=1) * weights).sum().backward()
    assert not torch.allclose(through.grad, free.grad, atol=1e-4)


def test_all_parameters_are_trained_and_the_output_is_of_unit_norm():
    module = embedding()
    embedded = module(maps(2, 6, 9, 4))
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2, 9, 4))
    (embedded * maps(2, 6, 9, 4, seed=1)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())
    assert math.isclose(module.gamma.item(), 0.5)


def test_mixed_precision_gives_float32_close_to_the_exact_one():
    module, features = embedding().eval(), maps(1, 6, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(features)
    assert rough.dtype == torch.float32
    assert F.cosine_similarity(rough, module(features).detach()).min() > 0.99
