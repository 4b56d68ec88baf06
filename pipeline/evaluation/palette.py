"""Colours of classes and clusters: well apart, the same in every run, and never black, which is unlabelled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Chosen so that the closest pair stays apart in normal vision and with protanopia and deuteranopia as well.
_FIRST = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (61, 90, 254),
    (213, 94, 0),
    (141, 224, 192),
    (170, 68, 153),
    (51, 34, 136),
    (0, 71, 79),
    (107, 74, 0),
)
_DISTINCT = 512  # more colours than eyes tell apart; a longer palette repeats them
_GREYS = (70, 205)  # darkest and lightest grey of unmatched clusters


def palette(n: int) -> NDArray[np.uint8]:
    """Give n colours that differ as much as possible; a shorter palette is the start of a longer one.

    Args:
        n: Number of colours, at least 0. After 512 they repeat.

    Returns:
        RGB colours of shape (n, 3), uint8. None of them is near black, white or grey.

    Raises:
        ValueError: When n is negative.
    """
    if n < 0:
        raise ValueError(f"expected a number of colours, not {n}")
    colours = np.asarray(_FIRST, dtype=np.uint8) if n <= len(_FIRST) else _spread_colours()
    return colours[np.arange(n) % len(colours)]


def cluster_colours(class_of_cluster: Sequence[int], classes: int) -> NDArray[np.uint8]:
    """Give every cluster the colour of its class, and every unmatched cluster a tone of grey.

    Args:
        class_of_cluster: The class of each of the K clusters, -1 for unmatched.
        classes: Number of classes C.

    Returns:
        RGB colours of shape (K, 3), uint8. Matched clusters have `palette(classes)[class]`.

    Raises:
        ValueError: When a class lies outside -1..C-1.
    """
    matches = np.asarray(class_of_cluster, dtype=np.int64)
    if matches.size and not -1 <= matches.min() <= matches.max() < classes:
        raise ValueError(f"expected classes in -1..{classes - 1}, not {matches.min()}..{matches.max()}")
    colours = np.zeros((len(matches), 3), dtype=np.uint8)
    unmatched = matches < 0
    tones = np.linspace(*_GREYS, max(int(unmatched.sum()), 1))[: int(unmatched.sum())]
    colours[unmatched] = np.round(tones).astype(np.uint8)[:, None]
    colours[~unmatched] = palette(classes)[matches[~unmatched]]
    return colours


def colourise(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], void: tuple[int, int, int] = (0, 0, 0)
) -> NDArray[np.uint8]:
    """Paint a label map.

    Args:
        labels: Integers of shape (H, W).
        colours: RGB colours of shape (n, 3), uint8.
        void: Colour of labels below 0, and of n and above, such as an ignore index.

    Returns:
        RGB image of shape (H, W, 3), uint8.
    """
    n = len(colours)
    table = np.vstack([colours, np.asarray([void], dtype=np.uint8)])
    index = labels.astype(np.int64)
    return table[np.where((index < 0) | (index >= n), n, index)]


def overlay(image: NDArray[np.uint8], colour_image: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
    """Lay colours over an image and draw their borders, so that regions and the image both stay legible.

    Args:
        image: RGB image of shape (H, W, 3), uint8.
        colour_image: Painted label map of the same shape, uint8.
        alpha: Opacity of the colours, 0 to 1. Borders are drawn in the full colour unless it is 0.

    Returns:
        RGB image of shape (H, W, 3), uint8.

    Raises:
        ValueError: When the shapes differ or alpha lies outside 0 to 1.
    """
    if image.shape != colour_image.shape:
        raise ValueError(f"an image of shape {image.shape} cannot carry colours of {colour_image.shape}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"expected an opacity in 0..1, not {alpha}")
    mixed = np.round(image * (1.0 - alpha) + colour_image * alpha).astype(np.uint8)
    if alpha > 0:
        edges = boundaries(colour_image)
        mixed[edges] = colour_image[edges]
    return mixed


def boundaries(labels: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pixels that differ from a neighbour to the right, to the left, above or below.

    Args:
        labels: Integers of shape (H, W), or a painted label map of shape (H, W, 3).

    Returns:
        Mask of shape (H, W); borders are two pixels wide, one on each side.
    """
    layers = labels if labels.ndim == 3 else labels[..., None]  # (H, W, channels)
    edges = np.zeros(layers.shape[:2], dtype=bool)
    below = (layers[1:] != layers[:-1]).any(axis=2)
    beside = (layers[:, 1:] != layers[:, :-1]).any(axis=2)
    edges[1:] |= below
    edges[:-1] |= below
    edges[:, 1:] |= beside
    edges[:, :-1] |= beside
    return edges


@lru_cache(maxsize=1)
def _spread_colours() -> NDArray[np.uint8]:
    """The first colours, then always the candidate that is farthest from all colours taken so far."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    usable = (lab[:, 0] > 0.35) & (lab[:, 0] < 0.95) & (np.hypot(lab[:, 1], lab[:, 2]) > 0.06)
    candidates, lab = candidates[usable], lab[usable]
    chosen = [np.asarray(colour, dtype=np.uint8) for colour in _FIRST]
    distance = np.full(len(candidates), np.inf)
    for colour in chosen:
        distance = np.minimum(distance, np.square(lab - _oklab(colour[None])).sum(axis=1))
    while len(chosen) < _DISTINCT:
        farthest = int(distance.argmax())
        chosen.append(candidates[farthest])
        distance = np.minimum(distance, np.square(lab - lab[farthest]).sum(axis=1))
    colours = np.stack(chosen)
    colours.setflags(write=False)
    return colours


def _oklab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Colours (n, 3) in Oklab (Ottosson 2020), where distance is close to perceived difference."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return lab
