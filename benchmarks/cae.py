"""Times the context of CAE against a plain loop over the neighbours: `python -m benchmarks.cae`."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.measuring import MEGABYTE, Row, peak_memory, time_calls
from pipeline.segmentation.cae.nonlocal_mean import nonlocal_mean
from pipeline.segmentation.cae.window import EXCLUDED, window_mean

CHANNELS = 128
SHAPES = ((16, 40, 40), (2, 80, 80))  # batch, height and width of the map
RADIUS, DILATION, SIGMA, TEMPERATURE = 3, 2, 4.0, 0.1
REPEATS = 3
Mean = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def loop_mean(values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """Mean of the window, one neighbour after the other.

    Args:
        values: (B, D, h, w).
        alike: (B, A, h, w), unit norm.

    Returns:
        (B, D, h, w).
    """
    h, w = values.shape[-2:]
    margin = RADIUS * DILATION
    places = range(0, 2 * margin + 1, DILATION)
    offsets = [(y, x) for y in places for x in places if (y, x) != (margin, margin)]
    values, padded = F.pad(values, (margin,) * 4), F.pad(alike, (margin,) * 4)
    outside = F.pad(torch.zeros(1, h, w), (margin,) * 4, value=EXCLUDED)
    logits = [
        (alike * padded[:, :, y : y + h, x : x + w]).sum(1) / TEMPERATURE
        - ((y - margin) ** 2 + (x - margin) ** 2) / (2 * SIGMA**2)
        + outside[:, y : y + h, x : x + w]
        for y, x in offsets
    ]
    affinity = torch.stack(logits).softmax(0)  # (48, B, h, w)
    mean = torch.zeros_like(values[:, :, :h, :w])
    for weight, (y, x) in zip(affinity, offsets, strict=True):
        mean = mean + weight[:, None] * values[:, :, y : y + h, x : x + w]
    return mean


def unfold_mean(values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """The same as it is usually written: all neighbours of all cells side by side."""
    B, D, h, w = values.shape
    margin, side = RADIUS * DILATION, 2 * RADIUS + 1
    window = {"kernel_size": side, "dilation": DILATION, "padding": margin}
    near_values = F.unfold(values, **window).view(B, D, side * side, h * w)
    near_alike = F.unfold(alike, **window).view(B, alike.shape[1], side * side, h * w)
    steps = torch.arange(-margin, margin + 1, DILATION).float()
    distances = (steps[:, None].square() + steps[None].square()).flatten() / (2 * SIGMA**2)
    logits = (near_alike * alike.flatten(2)[:, :, None]).sum(1) / TEMPERATURE - distances[None, :, None]
    inside = F.unfold(torch.ones(1, 1, h, w), **window)  # (1, side * side, h * w)
    logits = logits.masked_fill(inside == 0, EXCLUDED)
    logits[:, side * side // 2] = EXCLUDED
    return (near_values * logits.softmax(1)[:, None]).sum(2).view(B, D, h, w)


def lattice_mean(values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """The same, as the segmenter computes it."""
    return window_mean(values, alike=alike, radius=RADIUS, dilation=DILATION, sigma=SIGMA, temperature=TEMPERATURE)


def top_mean(values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """The non-local variant with 20 cells."""
    return nonlocal_mean(values, alike=alike, top=20, sigma=SIGMA, temperature=TEMPERATURE)


def measure(mean: Mean, shape: tuple[int, int, int], *, backward: bool) -> float:
    """Seconds of the fastest of some calls, after one to warm up.

    Args:
        mean: What to time.
        shape: Batch, height and width.
        backward: Whether the gradient of the values is computed as well.
    """
    rng = torch.Generator().manual_seed(0)
    batch, height, width = shape
    values, alike = (torch.randn(batch, CHANNELS, height, width, generator=rng) for _ in range(2))
    values.requires_grad_(backward)
    alike = F.normalize(alike, dim=1)
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        result = mean(values, alike)
        if backward:
            result.sum().backward()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def measure_rows() -> list[Row]:
    """Forward and backward, and the memory of a forward pass whose gradient is wanted."""
    rng = torch.Generator().manual_seed(0)
    values, alike = (torch.randn(4, CHANNELS, 40, 40, generator=rng) for _ in range(2))
    alike = F.normalize(alike, dim=1)
    torch.testing.assert_close(lattice_mean(values, alike), unfold_mean(values, alike), atol=1e-4, rtol=1e-4)
    values.requires_grad_()

    def both(mean: Mean) -> None:
        mean(values, alike).sum().backward()

    seconds = time_calls({"ours": lambda: both(lattice_mean), "unfold": lambda: both(unfold_mean)})
    ours, theirs = (peak_memory(lambda mean=mean: both(mean)) / MEGABYTE for mean in (lattice_mean, unfold_mean))
    faster = seconds["unfold"] / seconds["ours"]
    what = f"context of 4 × {CHANNELS} × 40 × 40, forward + backward"
    return [
        Row(what, "`unfold`", seconds["ours"], seconds["unfold"], "s", faster, ">= 2.5"),
        Row("… its peak memory", "`unfold`", ours, theirs, "MB", ours / theirs, "<= 0.1"),
    ]


def main() -> None:
    """Check that both forms agree, then print a table."""
    rng = torch.Generator().manual_seed(0)
    values, alike = (torch.randn(1, CHANNELS, 20, 20, generator=rng) for _ in range(2))
    alike = F.normalize(alike, dim=1)
    torch.testing.assert_close(lattice_mean(values, alike), loop_mean(values, alike), atol=1e-4, rtol=1e-4)
    print(f"{torch.get_num_threads()} threads, fp32, D {CHANNELS}, best of {REPEATS}; ratio: loop / lattice")
    print(f"{'map':>12}  {'pass':<18}{'loop':>9}{'lattice':>9}{'ratio':>7}{'nonlocal':>10}")
    for shape in SHAPES:
        for name, backward in (("forward", False), ("forward + backward", True)):
            loop, lattice, nonlocal_ = (
                measure(mean, shape, backward=backward) for mean in (loop_mean, lattice_mean, top_mean)
            )
            size = "x".join(map(str, shape))
            print(f"{size:>12}  {name:<18}{loop:>8.3f}s{lattice:>8.3f}s{loop / lattice:>7.1f}{nonlocal_:>9.3f}s")


if __name__ == "__main__":
    main()
