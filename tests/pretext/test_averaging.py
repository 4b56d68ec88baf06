import pytest
import torch
from torch import nn

from pipeline.pretext.averaging import Average, KeyQueue, SteadyAverage, rising_momentum


def test_an_average_follows_slowly_and_carries_no_gradient():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = Average(source)
    start = source[0].weight.detach().clone()
    with torch.no_grad():
        source[0].weight.add_(1.0)
    average.follow(source, 0.75)
    torch.testing.assert_close(average.module[0].weight, start + 0.25)
    assert not any(weight.requires_grad for weight in average.parameters())
    assert all(weight.requires_grad for weight in source.parameters())
    average.follow(source, 0.0)
    torch.testing.assert_close(average.module[0].weight, source[0].weight)


def test_a_steady_average_says_of_an_image_the_same_in_any_batch():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    steady, rows = SteadyAverage(source).train(), torch.randn(5, 2)
    assert source.training
    alone = torch.cat([steady.module(row[None]) for row in rows])
    torch.testing.assert_close(steady.module(rows), alone)
    plain = Average(source).train()
    assert not torch.allclose(plain.module(rows), plain.module(torch.cat([rows[:1], 3 * rows[1:]]))[:5])


def test_a_steady_average_learns_the_statistics_of_its_own_maps_and_stays_steady():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Dropout(0.5))
    steady, rows = SteadyAverage(source).train(), torch.randn(5, 2)
    with torch.no_grad():
        source[0].weight.add_(1.0)  # which is not where its statistics come from
        seen = steady.module[0](rows)
    steady.learn_statistics(rows)
    norm = steady.module[2]
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.var(0))
    assert not any(module.training for module in steady.modules())
    assert norm.weight.grad is None


def test_an_average_without_batch_norms_has_no_statistics_to_learn():
    steady, passes = SteadyAverage(nn.Linear(2, 3)), []
    steady.module.register_forward_hook(lambda *_: passes.append(1))
    steady.learn_statistics(torch.randn(5, 2))
    assert not passes


def test_momentum_rises_from_its_start_to_1():
    assert rising_momentum(0.9, 0.0) == pytest.approx(0.9)
    assert rising_momentum(0.9, 0.5) == pytest.approx(0.95)
    assert rising_momentum(0.9, 1.0) == pytest.approx(1.0)


def test_a_queue_holds_the_latest_keys():
    torch.manual_seed(0)
    queue = KeyQueue(5, 2)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(5))
    start = queue.keys.clone()
    rows = torch.arange(14.0).view(7, 2)
    queue.push(rows[:2])
    assert torch.equal(queue.keys, torch.cat([start[2:], rows[:2]]))
    queue.push(rows)
    assert torch.equal(queue.keys, rows[-5:])
    queue.push(rows[:1] * float("nan"))
    queue.eval()
    queue.push(rows[:1])
    assert torch.equal(queue.keys, rows[-5:])
