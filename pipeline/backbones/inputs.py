"""A backbone's first convolution for images of other channels than RGB."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class StandardisingConv(nn.Conv2d):
    """A convolution that standardises its input first, so that its zero padding stands for the mean image.

    The statistics are no weights: they belong to the architecture, and are not in the state.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, like: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
        if like.padding_mode != "zeros" or like.groups != 1 or isinstance(like.padding, str):
            raise ValueError(f"not a stem: {like}")
        super().__init__(
            len(mean),
            like.out_channels,
            (like.kernel_size[0], like.kernel_size[1]),
            (like.stride[0], like.stride[1]),
            (like.padding[0], like.padding[1]),
            (like.dilation[0], like.dilation[1]),
            bias=like.bias is not None,
        )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        # as spread as the weights in whose place these stand, for as strong an output from more or fewer channels
        spread = float(like.weight.detach().std()) * (like.in_channels / len(mean)) ** 0.5
        nn.init.normal_(self.weight, std=spread)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) in 0..1 to (B, width, H / stride, W / stride)."""
        return super().forward((images - self.mean) / self.std)


def fit_stem(backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Put a stem for other channels in the place of the one for RGB, with random weights of torch's generator.

    Args:
        backbone: Its first convolution of three channels is replaced.
        mean: Mean of each channel over the train images, in 0..1; likewise `std`, the standard deviation.
        std: See `mean`.
    """
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            parent, _, attribute = name.rpartition(".")
            setattr(backbone.get_submodule(parent), attribute, StandardisingConv(module, mean, std))
            return
    raise ValueError(f"{type(backbone).__name__} has no convolution of three channels")
