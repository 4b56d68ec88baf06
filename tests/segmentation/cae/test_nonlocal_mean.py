import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.segmentation.cae import nonlocal_mean as module
from pipeline.segmentation.cae.nonlocal_mean import nonlocal_mean
from pipeline.segmentation.cae.window import EXCLUDED

SETTINGS = {"top": 4, "sigma": 4.0, "temperature": 0.1}


def dense_mean(values, *, alike, top, sigma, temperature):
    """The whole table of pairs at once, differentiable all through."""
    B, D, h, w = values.shape
    rows, units = (t.flatten(2).transpose(1, 2) for t in (values, alike))
    y, x = torch.arange(h * w) // w, torch.arange(h * w) % w
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    logits = units @ units.transpose(1, 2) / temperature - squared / (2 * sigma**2)
    logits = torch.where(squared == 0, EXCLUDED, logits)
    least = logits.topk(top, dim=2).values[..., -1:]
    affinity = torch.where(logits >= least, logits, float("-inf")).softmax(2)
    return (affinity @ rows).transpose(1, 2).reshape(B, D, h, w)


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    top=st.integers(1, 30),
    sigma=st.floats(0.5, 10),
    temperature=st.floats(0.05, 2),
    exclude_self=st.booleans(),
    seed=st.integers(0, 100),
)
def test_it_is_the_definition_for_any_shape(maps, slow_nonlocal, height, width, seed, **settings):
    values, alike = maps(2, 3, height, width, seed=seed), maps(2, 4, height, width, seed=seed + 1)
    alike = F.normalize(alike, dim=1)
    found = nonlocal_mean(values, alike=alike, **settings)
    torch.testing.assert_close(found, slow_nonlocal(values, alike=alike, **settings), atol=2e-4, rtol=0)


def test_blocks_do_not_show(maps, monkeypatch):
    values, alike = maps(2, 3, 7, 5), F.normalize(maps(2, 4, 7, 5, seed=1), dim=1).requires_grad_()

    def run():
        alike.grad = None
        mean = nonlocal_mean(values, alike=alike, **SETTINGS)
        mean.square().sum().backward()
        return mean.detach(), alike.grad

    whole = run()
    monkeypatch.setattr(module, "BLOCK", 2 * 35 * 3)
    for one, other in zip(run(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_far_cells_count_where_they_are_alike(maps):
    alike = torch.zeros(1, 2, 3, 30)
    alike[:, 0] = 1
    alike[:, :, 0, 0] = alike[:, :, 2, 29] = torch.tensor([0.0, 1.0])
    values = maps(1, 3, 3, 30)
    mean = nonlocal_mean(values, alike=alike, top=2, sigma=100.0, temperature=0.05)
    torch.testing.assert_close(mean[:, :, 0, 0], values[:, :, 2, 29], atol=1e-4, rtol=0)


def test_gradients_are_those_of_the_whole_table(maps):
    values, alike, weights = (maps(2, 3, 4, 5, seed=i).requires_grad_(i < 2) for i in range(3))
    sigma, temperature = (torch.tensor(x, requires_grad=True) for x in (2.0, 0.3))
    inputs = (values, alike, sigma, temperature)
    slopes = []
    for mean in (nonlocal_mean, dense_mean):
        found = mean(values, alike=F.normalize(alike, dim=1), top=6, sigma=sigma, temperature=temperature)
        slopes.append(torch.autograd.grad((found * weights).sum(), inputs))
    for one, other in zip(*slopes, strict=True):
        assert other.abs().max() > 0.01
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_learned_scales_get_gradients_with_detached_likeness(maps):
    values, alike = maps(1, 3, 4, 5), F.normalize(maps(1, 3, 4, 5, seed=1), dim=1)
    sigma, temperature = (torch.tensor(x, requires_grad=True) for x in (2.0, 0.3))
    slopes = []
    for mean in (nonlocal_mean, dense_mean):
        found = mean(values, alike=alike, top=6, sigma=sigma, temperature=temperature)
        slopes.append(torch.autograd.grad(found.square().sum(), (sigma, temperature)))
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-4, rtol=1e-4)


def test_a_single_cell_has_no_neighbour(maps):
    values = maps(2, 3, 1, 1)
    assert not nonlocal_mean(values, alike=values, **SETTINGS).any()
    assert torch.equal(nonlocal_mean(values, alike=values, exclude_self=False, **SETTINGS), values)


def test_bfloat16_is_close_to_fp32(maps):
    values, alike = maps(1, 8, 9, 7), F.normalize(maps(1, 8, 9, 7, seed=1), dim=1)
    exact = nonlocal_mean(values, alike=alike, **SETTINGS)
    rough = nonlocal_mean(values.bfloat16(), alike=alike, **SETTINGS)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.05


@pytest.mark.parametrize("alike_learns", [True, False])
def test_memory_does_not_grow_with_the_square_of_the_map(maps, alike_learns):
    values = maps(1, 2, 40, 40).requires_grad_()
    alike = maps(1, 2, 40, 40).requires_grad_(alike_learns)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        nonlocal_mean(values, alike=alike, **SETTINGS)
    assert max(kept) <= 4 * 40 * 40
