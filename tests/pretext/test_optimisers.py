import copy

import numpy as np
import pytest
import torch

from pipeline.pretext.optimisers import Lars, build_optimizer
from tests.pretext.conftest import settings


def test_lars_steps_by_the_norm_of_each_layer():
    rng = np.random.default_rng(0)
    matrix, bias = rng.standard_normal((3, 2)), rng.standard_normal(3)
    gradients = [(rng.standard_normal((3, 2)), rng.standard_normal(3)) for _ in range(3)]
    weights = [torch.nn.Parameter(torch.tensor(start)) for start in (matrix, bias)]
    optimizer = Lars(weights, lr=0.5, weight_decay=0.1)
    speed = [np.zeros((3, 2)), np.zeros(3)]
    for of_matrix, of_bias in gradients:
        weights[0].grad, weights[1].grad = torch.tensor(of_matrix), torch.tensor(of_bias)
        optimizer.step()
        change = of_matrix + 0.1 * matrix
        speed[0] = 0.9 * speed[0] + change * 0.001 * np.linalg.norm(matrix) / np.linalg.norm(change)
        speed[1] = 0.9 * speed[1] + of_bias
        matrix, bias = matrix - 0.5 * speed[0], bias - 0.5 * speed[1]
    np.testing.assert_allclose(weights[0].detach(), matrix, rtol=1e-6)
    np.testing.assert_allclose(weights[1].detach(), bias, rtol=1e-6)


def test_lars_takes_its_state_back():
    one, two = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    first, second = Lars([one], 0.1, 0.0), Lars([two], 0.1, 0.0)
    for weight, optimizer in ((one, first), (two, second)):
        weight.grad = torch.ones(2, 2)
        optimizer.step()
    again = Lars([two], 0.1, 0.0)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer in (first, again):
        optimizer.step()
    assert torch.equal(one, two)


def test_a_layer_of_zeros_moves_by_its_gradient():
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = Lars([weight], 0.1, 0.0)
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD), ("lars", Lars)])
def test_the_name_picks_the_optimiser_of_what_is_trained(name, kind):
    frozen, trained = torch.nn.Parameter(torch.ones(2), requires_grad=False), torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([frozen, trained], settings(optimizer=name, learning_rate=0.25, weight_decay=0.5))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
    assert len(group["params"]) == 1
    assert group["params"][0] is trained
