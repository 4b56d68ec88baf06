"""From images to label maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.params import Precision
from pipeline.runtime.device import autocast
from pipeline.segmentation.model import Segmenter


@torch.inference_mode()
def segment_images(
    segmenter: Segmenter, images: torch.Tensor, *, device: torch.device, precision: Precision
) -> np.ndarray:
    """Label every pixel with its cluster: scores are brought to the images' size bilinearly, then compared.

    Args:
        segmenter: In evaluation mode, on `device`.
        images: uint8 (B, 3, h, w).
        device: Where to compute.
        precision: Of the network; scores are float32.

    Returns:
        int64 (B, h, w), in 0..K-1.
    """
    with autocast(device, precision):
        scores = segmenter(normalise(images.to(device, non_blocking=True)))
    scores = F.interpolate(scores.float(), images.shape[-2:], mode="bilinear", align_corners=False)
    labels: np.ndarray = scores.argmax(1).cpu().numpy()
    return labels


def segment_batches(
    segmenter: Segmenter,
    batches: Iterator[tuple[list[int], torch.Tensor]],
    *,
    device: torch.device,
    precision: Precision,
) -> Iterator[tuple[int, torch.Tensor, np.ndarray]]:
    """Segment a stream of batches; yields (image index, uint8 image (3, h, w), int64 labels (h, w))."""
    segmenter = segmenter.to(device).to(memory_format=torch.channels_last).eval()
    for indices, images in batches:
        labels = segment_images(segmenter, images, device=device, precision=precision)
        yield from zip(indices, images, labels, strict=True)
