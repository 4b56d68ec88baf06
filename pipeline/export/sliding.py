"""Scores of images of any size: windows that overlap, blended, a strip of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from pipeline.params import STRIDE


def window_starts(size: int, window: int, overlap: int) -> list[int]:
    """Where windows start that cover one side of an image; the last ends where the image ends.

    Args:
        size: Of the side in pixels, a multiple of 32, as are `window` and `overlap`.
        window: Side of a window.
        overlap: Pixels that neighbours share at least, below `window`.

    Returns:
        Ascending multiples of 32; [0] if one window is enough.
    """
    if any(length % STRIDE for length in (size, window, overlap)) or not 0 <= overlap < window:
        raise ValueError(f"expected multiples of {STRIDE} and an overlap below the window: {size}, {window}, {overlap}")
    if size <= window:
        return [0]
    return [*range(0, size - window, window - overlap), size - window]


def blend_weights(starts: Sequence[int], length: int, size: int, overlap: int) -> torch.Tensor:
    """Weights of the windows along one side: they rise and fall linearly over the overlap, and sum to 1 everywhere.

    Args:
        starts: Of the windows, in cells.
        length: Cells of a window.
        size: Cells of the side.
        overlap: Cells over which a weight rises.

    Returns:
        float32 (windows, length).
    """
    centres = torch.arange(length) + 0.5
    ramp = torch.minimum(centres, length - centres) / max(overlap, 1)
    weights = ramp.clamp(max=1.0).repeat(len(starts), 1)
    total = torch.zeros(size)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + length] += weight
    return torch.stack([weight / total[start : start + length] for start, weight in zip(starts, weights, strict=True)])


def iterate_strips(
    score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, *, window: int, overlap: int
) -> Iterator[torch.Tensor]:
    """Score images window by window, with memory for one row of windows.

    Args:
        score: From images (B, C, h, w) to scores (B, K, h / s, w / s), the stride s dividing 32.
        images: (B, C, H, W), H and W multiples of 32.
        window: Side of a window in pixels, a multiple of 32; smaller images are one window.
        overlap: Pixels that neighbours share at least, a multiple of 32.

    Yields:
        Strips (B, K, rows, W / s) from top to bottom; one below the other they are the whole map.
    """
    H, W = images.shape[-2:]
    height, width = min(window, H), min(window, W)
    tops, lefts = window_starts(H, window, overlap), window_starts(W, window, overlap)
    carried: torch.Tensor | None = None  # rows that the windows below share
    for number, top in enumerate(tops):
        parts = (score(images[..., top : top + height, left : left + width]) for left in lefts)
        strip, stride = _join_columns(parts, lefts, width, W, overlap)
        if len(tops) > 1:
            weights = blend_weights([y // stride for y in tops], height // stride, H // stride, overlap // stride)
            strip = strip * weights[number].to(strip.device)[:, None]
        if carried is not None:
            strip[:, :, : carried.shape[2]] += carried
        finished = (tops[number + 1] - top) // stride if number + 1 < len(tops) else strip.shape[2]
        yield strip[:, :, :finished]
        carried = strip[:, :, finished:]


def _join_columns(
    parts: Iterator[torch.Tensor], lefts: list[int], width: int, whole: int, overlap: int
) -> tuple[torch.Tensor, int]:
    """The blended row of windows (B, K, rows, whole / s), and s."""
    first = next(parts)
    stride = width // first.shape[3]
    if len(lefts) == 1:
        return first, stride
    starts = [left // stride for left in lefts]
    weights = blend_weights(starts, first.shape[3], whole // stride, overlap // stride).to(first.device)
    row = first.new_zeros((*first.shape[:3], whole // stride))
    for part, start, weight in zip((first, *parts), starts, weights, strict=True):
        row[..., start : start + part.shape[3]] += weight * part
    return row, stride
