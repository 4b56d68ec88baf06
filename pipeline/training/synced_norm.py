"""Batch norm over the images of all processes, as one process would do it over the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.training.dealing import Dealing


class SyncedBatchNorm(nn.SyncBatchNorm):
    """torch's SyncBatchNorm on CUDA; the same on the CPU, for which torch has none.

    Where a batch is not dealt to the processes, and in evaluation mode, it is plain batch norm.

    Args:
        plain: Whose weights and statistics it takes over.
        dealing: Tells whether the present batch is dealt to the processes.
    """

    def __init__(self, plain: _BatchNorm, dealing: Dealing) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        self.weight, self.bias = plain.weight, plain.bias  # the very same, which an optimiser may hold
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked
        self.training = plain.training
        self.dealing = dealing

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) to the same."""
        if not (self.training and self.dealing.is_shared):
            plain: torch.Tensor = _BatchNorm.forward(self, input)
            return plain
        if input.is_cuda:
            return super().forward(input)
        output, mean, variance, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, self.dealing.ranks.world
        )
        self._track(mean, variance * (count / (count - 1)))
        normalised: torch.Tensor = output
        return normalised

    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


def synchronise(module: nn.Module, dealing: Dealing) -> None:
    """Let all batch norms inside a module see the whole batch; alone nothing is changed.

    Args:
        module: Changed in place; its parameters and buffers stay the same tensors under the same names.
        dealing: The processes.
    """
    if dealing.ranks.is_alone:
        return
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            module.add_module(name, SyncedBatchNorm(child, dealing))
        else:
            synchronise(child, dealing)


class _Normalise(torch.autograd.Function):
    """Batch norm (Ioffe & Szegedy 2015) of the rows of all processes; their statistics come back beside the output."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, world: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        axes = _others(values)
        C = values.shape[1]
        # double: the sums over large maps, and the difference of means, lose no digits that one process would keep
        variance, mean = torch.var_mean(values.float(), axes, correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([values.numel() // C])]).double()
        held = [torch.empty_like(own) for _ in range(world)]
        distributed.all_gather(held, own)
        means, variances, counts = torch.stack(held).split([C, C, 1], dim=1)  # (world, C), (world, C), (world, 1)
        count = counts.sum()
        whole = (means * counts).sum(0) / count
        spread = ((variances + (means - whole).square()) * counts).sum(0) / count  # Chan et al. 1979
        mean, variance, count = whole.float(), spread.float(), count.float()
        ctx.save_for_backward(values, weight, mean, (spread + eps).rsqrt().float(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        output = F.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, weight, mean, scale, count = ctx.saved_tensors
        axes, shape = _others(values), (1, -1, *(1 for _ in _others(values)[1:]))
        grad, centred = grads[0].float(), values.float() - mean.view(shape)
        own = torch.stack([grad.sum(axes), (grad * centred).sum(axes) * scale])  # (2, C): of bias and weight
        whole = own.double()
        distributed.all_reduce(whole)
        shift, slope = (whole / count).float()
        factor = scale if weight is None else scale * weight
        back = (grad - shift.view(shape) - centred * (slope * scale).view(shape)) * factor.view(shape)
        if weight is None:
            return back.to(values.dtype), None, None, None, None
        return back.to(values.dtype), own[1], own[0], None, None


def _others(values: torch.Tensor) -> tuple[int, ...]:
    return (0, *range(2, values.ndim))
