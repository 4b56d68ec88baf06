"""Refines cluster scores with a conditional random field whose pairs of pixels lie in a window, by mean field."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipeline.params import RefineParams

Part = tuple[slice, slice]


@torch.no_grad()
def refine_scores(scores: torch.Tensor, image: torch.Tensor, params: RefineParams) -> torch.Tensor:
    """Let each pixel agree with neighbours that are near and of like colour.

    The energy has the scores as unary terms, and for each pair of pixels of different clusters that lie in one window
    the sum of two Gaussian kernels, of place and colour together and of place alone, each divided by the root of both
    pixels' sums of it. As every pixel is updated at once, more iterations need not lower the energy; their number is
    a parameter of the result.

    Args:
        scores: float32 (K, h, w), at the image's size; the softmax of `scores / temperature` is the start.
        image: uint8 (3, h, w).
        params: Group `evaluate.refine`; without iterations the start is returned.

    Returns:
        float32 (K, h, w), probabilities of the clusters. Time grows with pixels, clusters, iterations and the square
        of the radius, memory with pixels and the larger of clusters and the square of the radius.

    Source: Krähenbühl and Koltun 2011, algorithm 1 with the Potts model; windows as in Teichmann and Cipolla 2018.
    """
    unary = scores.float() / params.temperature
    beliefs = unary.softmax(0)
    pairs = list(_pair_weights(image.to(scores.device), params)) if params.iterations else []
    for _ in range(params.iterations):
        total = unary.clone()
        for (rows, cols), (other_rows, other_cols), weights in pairs:
            total[:, rows, cols].addcmul_(beliefs[:, other_rows, other_cols], weights)
            total[:, other_rows, other_cols].addcmul_(beliefs[:, rows, cols], weights)
        beliefs = total.softmax(0)
    return beliefs


def _pair_weights(image: torch.Tensor, params: RefineParams) -> Iterator[tuple[Part, Part, torch.Tensor]]:
    """Each pair of pixels once: both sides of all pairs of one offset, and their weights (rows, cols)."""
    colours = image.float()
    kernels = []
    for dy, dx in _half_window(params, colours.shape[1:]):
        first, second = _overlap(dy, colours.shape[1]), _overlap(dx, colours.shape[2])
        here, there = (first[0], second[0]), (first[1], second[1])
        apart = (dy**2 + dx**2) / (2 * params.place_sigma**2)
        squared = (colours[:, *here] - colours[:, *there]).square().sum(0)
        alike = torch.exp(-squared / (2 * params.colour_sigma**2) - apart)
        near = torch.exp(torch.full_like(squared, -apart))
        kernels.append((here, there, alike, near))
    weighted = (params.colour_weight, params.place_weight)
    # of what the image's edge leaves of a window
    sums = torch.full((2, *colours.shape[1:]), torch.finfo(torch.float32).tiny, device=colours.device)
    for here, there, *both in kernels:
        for total, kernel in zip(sums, both, strict=True):
            total[here] += kernel
            total[there] += kernel
    scales = sums.rsqrt()
    for here, there, *both in kernels:
        parts = zip(weighted, both, scales, strict=True)
        yield here, there, sum(weight * kernel * scale[here] * scale[there] for weight, kernel, scale in parts)


def _half_window(params: RefineParams, size: torch.Size) -> Iterator[tuple[int, int]]:
    """Offsets in pixels to half of a window, so that with their opposites it is whole; none leaves the image."""
    reach = range(-params.radius, params.radius + 1)
    for dy in range(params.radius + 1):
        for dx in reach:
            offset = dy * params.dilation, dx * params.dilation
            if (dy, dx) > (0, 0) and offset[0] < size[0] and abs(offset[1]) < size[1]:
                yield offset


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """Where a line and itself, moved by an offset, overlap."""
    return slice(max(-offset, 0), length - max(offset, 0)), slice(max(offset, 0), length - max(-offset, 0))
