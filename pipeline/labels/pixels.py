"""Labelled pixels with the features of a map at their places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.errors import InputError
from pipeline.runtime.randomness import generator

Encode = Callable[[torch.Tensor], torch.Tensor]
Batches = Iterable[tuple[list[int], torch.Tensor]]


@dataclass(frozen=True)
class LabelledPixels:
    """A sample of pixels.

    Attributes:
        features: float32 (N, D).
        labels: int64 (N,), class ids.
    """

    features: torch.Tensor
    labels: torch.Tensor


def sample_pixels(
    batches: Batches,
    encode: Encode,
    read_mask: Callable[[int], np.ndarray],
    *,
    images: int,
    count: int,
    ignore_index: int,
    seed: int,
) -> LabelledPixels:
    """Draw labelled pixels, the same number from every image as far as it has them.

    Args:
        batches: Indices and uint8 images (B, 3, H, W).
        encode: From such images to a map, float32 (B, D, h, w).
        read_mask: Class ids (H, W) of an index.
        images: How many images will come.
        count: Pixels in all, about.
        ignore_index: Id of the pixels that have no label.
        seed: With an image's index it decides the places.

    Returns:
        The pixels on the CPU, in the order of the images; features are interpolated bilinearly at their places.

    Raises:
        InputError: No image has a labelled pixel.
    """
    per_image = math.ceil(count / images)
    features: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for indices, frames in batches:
        for index, map_ in zip(indices, encode(frames), strict=True):
            mask = read_mask(index)
            labelled = np.flatnonzero(mask != ignore_index)
            rng = generator(seed, "labels/pixels", index)
            places = np.sort(rng.permutation(len(labelled))[:per_image])
            chosen = labelled[places]
            if len(chosen):
                features.append(features_at(map_, chosen, (mask.shape[0], mask.shape[1])).cpu())
                labels.append(torch.from_numpy(mask.ravel()[chosen].astype(np.int64)))
    if not features:
        raise InputError(
            f"every pixel of the {images} masks to learn from has the ignored id {ignore_index}; check the masks, or "
            "ignore_index in classes.json"
        )
    return LabelledPixels(torch.cat(features), torch.cat(labels))


def features_at(map_: torch.Tensor, places: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Features of some pixels, as bilinear interpolation of the map to the frame's size would give them.

    Args:
        map_: float32 (D, h, w).
        places: int64 (n,), positions in the flattened frame.
        size: H and W of the frame.

    Returns:
        float32 (n, D).
    """
    H, W = size
    y, x = np.divmod(places, W)
    grid = np.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], axis=1).astype(np.float32)  # (n, 2)
    points = torch.from_numpy(grid).to(map_.device)[None, None]  # (1, 1, n, 2)
    sampled = F.grid_sample(map_[None], points, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T
