import copy
import logging

import pytest
import torch
from torch import nn

from pipeline.backbones.encoder import build_encoder
from pipeline.training.sparing import heavy_modules, recomputed, train_sparing

LOG = logging.getLogger("fs4.test")


def step(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A forward and a backward pass; the loss, and the bytes that were kept from one to the other."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(images).float().square().mean()
        kept = sum(held.values()) - sum(weight.nbytes for weight in network.parameters())
        loss.backward()
    return loss, kept


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_small_patch16"])
def test_recomputed_activations_change_no_bit(backbone: str) -> None:
    if backbone.startswith("vit"):
        pytest.importorskip("timm")
    network = build_encoder(backbone, 8, 0).train()
    other = copy.deepcopy(network)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        loss, kept = step(network, images)
        with recomputed(heavy_modules(other)):
            again, kept_less = step(other, images)
        assert torch.equal(loss, again)
        assert kept_less < kept / 2
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)
    # running statistics count each batch once
    for one, two in zip(network.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)
    _, kept_again = step(other, images)
    assert kept_again > kept_less  # back to what it was


def test_without_gradient_nothing_is_computed_twice() -> None:
    network = build_encoder("resnet18", 8, 0).eval()
    calls = []
    network.backbone.stem.register_forward_hook(lambda *_: calls.append(1))
    with recomputed(heavy_modules(network)), torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert len(calls) == 1


def test_a_full_device_starts_the_training_over_once() -> None:
    module, runs = nn.Linear(2, 2), list[bool]()

    def train() -> None:
        runs.append("forward" in vars(module))
        if len(runs) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    train_sparing(train, [module], spare=True, log=LOG)
    assert runs == [False, True]
    assert "forward" not in vars(module)


@pytest.mark.parametrize(
    ("spare", "error", "runs"),
    [(False, torch.OutOfMemoryError("full"), 1), (True, torch.OutOfMemoryError("full"), 2), (True, RuntimeError(), 1)],
)
def test_other_errors_and_a_device_that_stays_full_end_it(spare: bool, error: RuntimeError, runs: int) -> None:
    made: list[int] = []

    def train() -> None:
        made.append(1)
        raise error

    with pytest.raises(type(error)):
        train_sparing(train, [nn.Linear(2, 2)], spare=spare, log=LOG)
    assert len(made) == runs
