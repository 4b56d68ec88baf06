import copy

import pytest
import torch
from torch import nn

from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.training.dealing import Dealing
from pipeline.training.synced_norm import SyncedBatchNorm, synchronise
from tests.several import run_processes

WORLD = 3
IMAGES = 5


def networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Networks and what they see: (B, C), (B, C, h, w) far from zero, channels last, without weights, in bfloat16."""
    torch.manual_seed(0)
    maps = torch.randn(IMAGES, 4, 3, 2)
    return {
        "rows": (nn.BatchNorm1d(6), torch.randn(IMAGES, 6)),
        "maps": (nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), nn.ReLU()), maps * 2 + 10),
        "channels last": (
            nn.BatchNorm2d(4, momentum=0.3, eps=1e-3),
            maps.contiguous(memory_format=torch.channels_last),
        ),
        "no weights": (nn.BatchNorm2d(4, affine=False), maps),
        "cumulative": (nn.BatchNorm2d(4, momentum=None), maps),
        "no statistics": (nn.BatchNorm2d(4, track_running_stats=False), maps),
        "half": (nn.BatchNorm2d(4), maps.bfloat16()),
    }


def normalise(ranks: Ranks, folder) -> dict:
    found = {}
    for name, (network, values) in networks().items():
        dealing, outputs, backs = Dealing(ranks), [], []
        holder = nn.Sequential(network)
        kept = dict(holder.named_parameters())
        synchronise(holder, dealing)
        assert all(weight is kept[key] for key, weight in holder.named_parameters())
        assert any(isinstance(module, SyncedBatchNorm) for module in holder.modules()) == (not ranks.is_alone)
        # the second batch is too small to be dealt
        for indices, images in dealing.deal(
            [[0, 1, 2, 3, 4], [3, 2], [4, 0, 1]], lambda batches: ((b, b) for b in batches)
        ):
            part = values[images].detach().requires_grad_()
            output = holder(part)
            whole = dealing.gather(output.float())
            weight = torch.linspace(-1, 2, whole.numel()).view(whole.shape)
            (whole * weight).square().sum().backward()
            outputs.append(dealing.gather(output.detach()))
            # of the whole loss: `average_gradients` divides by the number of processes
            backs.append(dealing.gather(part.grad / (ranks.world if dealing.is_shared else 1)))
            assert output.dtype == values.dtype
            assert output.is_contiguous(memory_format=torch.channels_last) or name != "channels last"
            assert len(indices) == len(output)
        dealing.average_gradients(holder.parameters())
        evaluated = copy.deepcopy(holder).eval()(values).detach()
        grads = {key: weight.grad for key, weight in holder.named_parameters()}
        found[name] = {"outputs": outputs, "backs": backs, "grads": grads, "evaluated": evaluated}
        found[name]["state"] = dict(holder.state_dict())
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    return normalise(ALONE, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> list[dict]:
    return run_processes(normalise, tmp_path_factory.mktemp("several"), WORLD)


@pytest.mark.parametrize("name", networks())
def test_outputs_gradients_and_statistics_are_those_of_one_process(alone, several, name):
    near = {"rtol": 0.05, "atol": 0.1} if name == "half" else {"rtol": 1e-4, "atol": 1e-5}
    for found in several:
        for key, expected in alone[name].items():
            torch.testing.assert_close(found[name][key], expected, **near)
        # both processes go on with the same numbers
        for key, value in found[name]["state"].items():
            assert torch.equal(value, several[0][name]["state"][key])


def test_only_batch_norms_are_changed_and_alone_nothing_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4).eval()), nn.GroupNorm(2, 4))
    plain = [type(module) for module in network.modules()]
    synchronise(network, Dealing())
    assert [type(module) for module in network.modules()] == plain
    state = {key: value.clone() for key, value in network.state_dict().items()}
    synchronise(network, Dealing(Ranks(0, 2, 0, 2)))
    assert isinstance(network[1][0], SyncedBatchNorm)
    assert not network[1][0].training
    assert [type(module) for module in network][::2] == [nn.Conv2d, nn.GroupNorm]
    assert list(network.state_dict()) == list(state)
    torch.testing.assert_close(network(torch.ones(2, 3, 1, 1)), network(torch.ones(2, 3, 1, 1)))
