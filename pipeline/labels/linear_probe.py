"""Multinomial logistic regression of single pixels: a 1x1 convolution on a frozen map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline.labels.pixels import LabelledPixels

MIN_SPREAD = 1e-6  # of a channel; a constant one stays unscaled


@dataclass(frozen=True)
class LinearProbe:
    """Class scores as a linear function of a pixel's features.

    Attributes:
        weight: float32 (C, D).
        bias: float32 (C,).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32 (B, D, h, w) to logits (B, C, h, w)."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return F.conv2d(features, weight[:, :, None, None], bias)


def fit_linear(
    pixels: LabelledPixels, classes: int, *, iterations: int, weight_decay: float, device: torch.device
) -> LinearProbe:
    """Fit by L-BFGS on the whole sample, from zero weights.

    Features are standardised first and the scaling is folded into the result. What is minimised is the mean cross
    entropy plus weight_decay / 2 times the squared norm of the weights, biases excluded; it is convex, so there is no
    luck in it.

    Args:
        pixels: The sample.
        classes: Number of classes C.
        iterations: L-BFGS iterations at most.
        weight_decay: L2 penalty, at least 0.
        device: Where to compute.

    Returns:
        The probe on the CPU.
    """
    features, labels = pixels.features.to(device), pixels.labels.to(device)
    mean, spread = features.mean(0), features.std(0, unbiased=False)
    spread = torch.where(spread < MIN_SPREAD, torch.ones_like(spread), spread)
    scaled = (features - mean) / spread  # (N, D)
    weight = torch.zeros(classes, features.shape[1], device=device, requires_grad=True)
    bias = torch.zeros(classes, device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight.T + bias, labels) + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    folded = weight.detach() / spread
    return LinearProbe(folded.cpu(), (bias.detach() - folded @ mean).cpu())
