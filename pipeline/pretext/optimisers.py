"""The optimisers that pretext methods were published with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch

from pipeline.params import PretrainParams

MOMENTUM = 0.9
TRUST = 0.001  # LARS: share of a layer's norm that one step of rate 1 moves


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose steps are scaled to the norm of each layer, for large batches (You et al. 2017).

    As in the papers that use it, biases and norms (tensors of one dimension) are neither scaled nor decayed.

    Args:
        weights: What is trained.
        lr: Learning rate.
        weight_decay: L2 penalty.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = ...) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all weights that have a gradient; a closure is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                change = weight.grad
                if weight.ndim > 1:
                    change = change + group["weight_decay"] * weight
                    norm, change_norm = weight.norm(), change.norm()
                    trust = torch.where((norm > 0) & (change_norm > 0), TRUST * norm / change_norm, 1.0)
                    change = change * trust
                state: dict[str, Any] = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity: torch.Tensor = state["velocity"]
                velocity.mul_(MOMENTUM).add_(change)
                weight.add_(velocity, alpha=-group["lr"])
        return None


def build_optimizer(weights: Iterable[torch.nn.Parameter], params: PretrainParams) -> torch.optim.Optimizer:
    """The optimiser that `pretrain.optimizer` names, of those weights that are trained."""
    trained = [weight for weight in weights if weight.requires_grad]
    rate, decay = params.learning_rate, params.weight_decay
    if params.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=MOMENTUM, weight_decay=decay)
    if params.optimizer == "lars":
        return Lars(trained, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=True)
