"""Random maps, and slow references for the means over neighbours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch


def make_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weigh(alike: np.ndarray, values: np.ndarray, one: Any, others: list[Any], sigma: float, temperature: float):
    """The mean of `others` as cell `one` sees them, in float64; `others` are (y, x) in (C, h, w)."""
    logits = np.array(
        [
            alike[:, one[0], one[1]] @ alike[:, y, x] / temperature
            - ((y - one[0]) ** 2 + (x - one[1]) ** 2) / (2 * sigma**2)
            for y, x in others
        ]
    )
    weights = np.exp(logits - logits.max())
    return weights / weights.sum() @ np.array([values[:, y, x] for y, x in others]), logits


def slow_window_mean(values, *, alike, radius, dilation, sigma, temperature, exclude_self=True) -> torch.Tensor:
    """The definition, neighbour by neighbour."""
    values, alike = values.double().numpy(), alike.double().numpy()
    result = np.zeros_like(values)
    batch, _, height, width = values.shape
    steps = range(-radius, radius + 1)
    for b, y, x in np.ndindex(batch, height, width):
        around = [(y + dilation * dy, x + dilation * dx) for dy in steps for dx in steps]
        inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
        others = [place for place in inside if not exclude_self or place != (y, x)]
        if others:
            result[b, :, y, x] = weigh(alike[b], values[b], (y, x), others, sigma, temperature)[0]
    return torch.from_numpy(result).float()


def slow_nonlocal_mean(values, *, alike, top, sigma, temperature, exclude_self=True) -> torch.Tensor:
    """The definition: all cells are ranked by their logits, and the best ones are weighed."""
    values, alike = values.double().numpy(), alike.double().numpy()
    result = np.zeros_like(values)
    batch, _, height, width = values.shape
    for b, y, x in np.ndindex(batch, height, width):
        others = [place for place in np.ndindex(height, width) if not exclude_self or place != (y, x)]
        if others:
            _, logits = weigh(alike[b], values[b], (y, x), others, sigma, temperature)
            best = [others[i] for i in np.argsort(-logits)[:top]]
            result[b, :, y, x] = weigh(alike[b], values[b], (y, x), best, sigma, temperature)[0]
    return torch.from_numpy(result).float()


@pytest.fixture(scope="session")
def maps() -> Callable[..., torch.Tensor]:
    return make_maps


@pytest.fixture(scope="session")
def slow_window() -> Callable[..., torch.Tensor]:
    return slow_window_mean


@pytest.fixture(scope="session")
def slow_nonlocal() -> Callable[..., torch.Tensor]:
    return slow_nonlocal_mean
