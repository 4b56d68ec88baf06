import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.params import load_params
from pipeline.segmentation.cae.embedding import ContextAwareEmbedding, join_units
from pipeline.segmentation.cae.window import window_mean

PARAMS = load_params(Path(__file__).parents[3] / "params.yaml").train.cae
WINDOW = {"radius": 2, "dilation": 2, "sigma": 4.0, "temperature": 0.1}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"neighbourhood": "nonlocal", "top": 5},
    {"scales": [1, 2]},
    {"mix": "fixed"},
    {"mix": "fixed", "neighbourhood": "nonlocal", "top": 5},
    {"exclude_self": False},
    {"stop_gradient": False},
    {"stop_gradient": False, "neighbourhood": "nonlocal", "top": 5},
    {"fixed_temperature": False},
    {"fixed_temperature": False, "scales": [1, 2], "mix": "fixed"},
    {"fixed_temperature": False, "neighbourhood": "nonlocal", "top": 5, "exclude_self": False},
]


def embedding(**changes: Any) -> ContextAwareEmbedding:
    torch.manual_seed(0)
    return ContextAwareEmbedding(6, PARAMS.model_copy(update={"gamma": 0.5, **WINDOW, **changes}))


@pytest.fixture(scope="module")
def slow_context(slow_window, slow_nonlocal):
    """What a variant takes from the neighbours, by the slow references."""

    def context(values, maps, params):
        alike = join_units(maps)
        guard = {"temperature": params.temperature, "exclude_self": params.exclude_self}
        if params.neighbourhood == "nonlocal":
            return slow_nonlocal(values, alike=alike, top=params.top, sigma=params.sigma, **guard)
        contexts = [
            slow_window(
                values,
                alike=alike,
                radius=params.radius,
                dilation=params.dilation * scale,
                sigma=params.sigma * scale,
                **guard,
            )
            for scale in params.scales
        ]
        return sum(contexts) / len(contexts)

    return context


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_embedding_is_the_formula(maps, slow_context, changes, gamma, sources):
    module, features = embedding(gamma=gamma, **changes), maps(2, 6, 7, 5)
    appearance = () if sources == 1 else (features, maps(2, 4, 7, 5, seed=1))
    seen = appearance or (features,)
    if module.params.mix == "fixed":
        own = F.normalize(features, dim=1)
        context = F.normalize(slow_context(own, seen, module.params), dim=1)
        expected = F.normalize((1 - gamma) * own + gamma * context, dim=1)
    else:
        context = slow_context(module.transform(features).detach(), seen, module.params)
        mean, variance = context.mean((0, 2, 3), keepdim=True), context.var((0, 2, 3), unbiased=False, keepdim=True)
        expected = F.normalize(features + gamma * (context - mean) / (variance + module.norm.eps).sqrt(), dim=1)
    torch.testing.assert_close(module(features, appearance).detach(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_with_gamma_0_it_is_plain_normalisation_and_a_learned_gamma_still_learns(maps, changes):
    module, features = embedding(gamma=0.0, **changes), maps(2, 6, 7, 5)
    embedded = module(features)
    torch.testing.assert_close(embedded, F.normalize(features, dim=1))
    if module.params.mix == "learned":
        (embedded * maps(2, 6, 7, 5, seed=1)).sum().backward()
        assert module.gamma.grad.abs() > 1e-3
    else:
        assert not module.gamma.requires_grad


@pytest.mark.parametrize("mix", ["learned", "fixed"])
@pytest.mark.parametrize("neighbourhood", ["window", "nonlocal"])
def test_affinities_carry_gradients_only_if_asked(maps, neighbourhood, mix):
    features, weights = maps(1, 6, 6, 6), maps(1, 6, 6, 6, seed=1)

    def slope(stop_gradient: bool, constant: bool) -> torch.Tensor:
        module = embedding(neighbourhood=neighbourhood, stop_gradient=stop_gradient, mix=mix, top=5)
        free = features.clone().requires_grad_()
        # appearance that is a constant by construction against the features themselves
        embedded = module(free, (features.clone(),) if constant else ())
        return torch.autograd.grad((embedded * weights).sum(), free)[0]

    torch.testing.assert_close(slope(True, False), slope(True, True))
    torch.testing.assert_close(slope(True, False), slope(False, True))
    assert not torch.allclose(slope(False, False), slope(True, False), atol=1e-4)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_all_parameters_are_trained_and_the_output_is_of_unit_norm(maps, changes):
    module = embedding(**changes)
    embedded = module(maps(2, 6, 9, 4).requires_grad_())
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2, 9, 4))
    (embedded * maps(2, 6, 9, 4, seed=1)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())
    names = {name for name, _ in module.named_parameters()}
    assert ("gamma" in names) == (module.params.mix == "learned")
    assert ({"log_sigma", "log_temperature"} <= names) != module.params.fixed_temperature
    assert math.isclose(module.gamma.item(), 0.5)


def test_learned_temperatures_stay_positive_and_count(maps):
    module, features = embedding(fixed_temperature=False).eval(), maps(1, 6, 8, 8)
    with torch.no_grad():
        module.log_temperature.fill_(math.log(0.7))
        module.log_sigma.fill_(math.log(1.3))
        expected = embedding(temperature=0.7, sigma=1.3).eval()(features)
        torch.testing.assert_close(module(features), expected)


def test_several_appearances_multiply_their_affinities(maps):
    values, one, two = maps(1, 3, 5, 5), maps(1, 6, 5, 5, seed=1), maps(1, 4, 5, 5, seed=2)
    # rows of the identity as values give the affinities themselves
    cells = torch.eye(25).view(1, 25, 5, 5)
    first, second, both = (window_mean(cells, alike=join_units(m), **WINDOW) for m in ([one], [two], [one, two]))
    prior = window_mean(cells, alike=torch.zeros_like(values), **WINDOW)
    product = torch.where(prior > 0, first * second / prior.clamp(min=1e-12), 0.0)
    torch.testing.assert_close(both, product / product.sum(1, keepdim=True), atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 3)])
def test_maps_smaller_than_the_window_give_finite_values_and_slopes(maps, changes, size):
    module, features = embedding(**changes), maps(2, 6, *size).requires_grad_()
    embedded = module(features)
    assert embedded.isfinite().all()
    (embedded * maps(2, 6, *size, seed=1)).sum().backward()
    assert features.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_mixed_precision_gives_float32_close_to_the_exact_one(maps, changes):
    module, features = embedding(**changes).eval(), maps(1, 6, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(features.bfloat16().requires_grad_())
    assert rough.dtype == torch.float32
    similarity = F.cosine_similarity(rough, module(features).detach())
    # where two cells are about equally alike, rounding may choose another one
    assert similarity.mean() > 0.99
    assert (similarity > 0.99).float().mean() > 0.9
    rough.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
