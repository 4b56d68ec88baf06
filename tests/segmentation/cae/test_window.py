import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.sparing import release_memory
from pipeline.segmentation.cae.window import BAND, _fixed_prior, window_mean

SETTINGS = {"radius": 3, "dilation": 2, "sigma": 4.0, "temperature": 0.1}


@pytest.fixture(scope="module")
def check(maps, slow_window):
    def compare(height, width, seed=0, batch=2, **settings):
        values, alike = (maps(batch, 3, height, width, seed=seed + i) for i in (0, 1))
        alike = F.normalize(alike, dim=1)
        found = window_mean(values, alike=alike, **settings)
        assert found.shape == values.shape
        torch.testing.assert_close(found, slow_window(values, alike=alike, **settings), atol=2e-4, rtol=0)

    return compare


@pytest.mark.parametrize("exclude_self", [True, False])
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
def test_it_is_the_definition(check, height, width, radius, dilation, exclude_self):
    check(height, width, radius=radius, dilation=dilation, sigma=4.0, temperature=0.1, exclude_self=exclude_self)


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    radius=st.integers(1, 3),
    dilation=st.integers(1, 4),
    sigma=st.floats(0.5, 10),
    temperature=st.floats(0.05, 2),
    exclude_self=st.booleans(),
    seed=st.integers(0, 100),
)
def test_it_is_the_definition_for_any_shape(check, height, width, seed, **settings):
    check(height, width, seed, batch=1, **settings)


def test_pixels_without_neighbours_get_nothing(maps):
    for height, width in [(1, 1), (2, 2), (1, 2)]:
        values = maps(1, 3, height, width)
        assert not window_mean(values, alike=values, **SETTINGS).any()
        assert torch.equal(window_mean(values, alike=values, exclude_self=False, **SETTINGS), values)


@pytest.mark.parametrize("exclude_self", [True, False])
def test_a_pixel_is_its_own_neighbour_only_if_asked(maps, exclude_self):
    settings = SETTINGS | {"radius": 2, "dilation": 1, "exclude_self": exclude_self}
    values, alike = maps(1, 3, 5, 5), F.normalize(maps(1, 3, 5, 5, seed=1), dim=1)
    changed = values.clone()
    changed[:, :, 2, 2] += 100
    before, after = (window_mean(v, alike=alike, **settings) for v in (values, changed))
    assert torch.allclose(after[:, :, 2, 2], before[:, :, 2, 2]) == exclude_self
    assert (after - before).abs().sum(1)[0].gt(1e-6).sum() > 10


def test_likeness_and_nearness_count():
    alike = torch.zeros(1, 2, 5, 5)
    alike[:, 0] = 1
    alike[:, :, :, 3:] = torch.tensor([0.0, 1.0])[None, :, None, None]
    values = torch.zeros(1, 1, 5, 5)
    values[..., 3:] = 1
    sharp = window_mean(values, alike=alike, radius=2, dilation=1, sigma=4.0, temperature=0.05)
    assert sharp[0, 0, 2, 2] < 1e-4
    assert sharp[0, 0, 2, 3] > 1 - 1e-4
    near = window_mean(values, alike=torch.ones_like(alike), radius=2, dilation=1, sigma=0.3, temperature=1.0)
    assert near[0, 0, 2, 2] == pytest.approx(0.25, abs=0.01)


def test_bfloat16_is_close_to_fp32(maps):
    values, alike = maps(1, 8, 9, 7), F.normalize(maps(1, 8, 9, 7, seed=1), dim=1)
    exact = window_mean(values, alike=alike, **SETTINGS)
    rough = window_mean(values.bfloat16(), alike=alike, **SETTINGS)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.03
    assert (rough.float() - exact).abs().max() < 0.3


def test_learned_scales_give_the_same_mean_and_the_slopes_of_finite_differences(maps):
    values, alike, weights = (maps(2, 3, 7, 5, seed=i).double() for i in range(3))
    alike = F.normalize(alike, dim=1)
    sigma, temperature = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.5, 0.4))

    def score(sigma, temperature):
        mean = window_mean(values, alike=alike, radius=2, dilation=2, sigma=sigma, temperature=temperature)
        return (mean * weights).sum()

    torch.testing.assert_close(score(sigma, temperature), score(1.5, 0.4), atol=1e-5, rtol=0)
    score(sigma, temperature).backward()
    assert sigma.grad == pytest.approx(float(score(1.51, 0.4) - score(1.49, 0.4)) / 0.02, rel=1e-2)
    assert temperature.grad == pytest.approx(float(score(1.5, 0.401) - score(1.5, 0.399)) / 0.002, rel=1e-2)


def test_what_was_first_made_for_inference_serves_training(maps):
    values = maps(1, 3, 11, 13)
    settings = SETTINGS | {"sigma": 3.21}
    with torch.inference_mode():
        window_mean(values, alike=values, **settings)
    alike = values.clone().requires_grad_()
    window_mean(values, alike=alike, **settings).sum().backward()
    assert alike.grad.abs().sum() > 0


def test_what_is_remembered_goes_when_memory_is_short(maps):
    values = maps(1, 3, 6, 6)
    first = window_mean(values, alike=values, **SETTINGS)
    assert _fixed_prior.cache_info().currsize
    release_memory()
    assert not _fixed_prior.cache_info().currsize
    assert torch.equal(window_mean(values, alike=values, **SETTINGS), first)
