"""From images to label maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.params import Precision
from pipeline.runtime.device import autocast
from pipeline.segmentation.draws import FinalDraws
from pipeline.segmentation.model import Segmenter

# Index, uint8 image (3, h, w), clusters int64 (h, w), and those of each further final clustering that was asked for.
SegmentedImage = tuple[int, torch.Tensor, np.ndarray, list[np.ndarray]]


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
    return _label(segmenter.scores(_embed(segmenter, images, device, precision)), images)


def segment_batches(
    segmenter: Segmenter,
    batches: Iterator[tuple[list[int], torch.Tensor]],
    *,
    device: torch.device,
    precision: Precision,
    draws: FinalDraws | None = None,
    drawn: Collection[int] = (),
) -> Iterator[SegmentedImage]:
    """Segment a stream of batches; every image is embedded once.

    Args:
        segmenter: The network with its chosen prototypes.
        batches: Indices and uint8 images (B, 3, h, w).
        device: Where to compute.
        precision: Of the network; scores are float32.
        draws: Further final clusterings.
        drawn: Indices of the images that these label as well.

    Yields:
        The images, in the order of the batches.
    """
    segmenter = segmenter.to(device).to(memory_format=torch.channels_last).eval()
    draws = draws.to(device) if draws else None
    for indices, images in batches:
        rows = [row for row, index in enumerate(indices) if draws and index in drawn]
        labels, by_draw = _segment(segmenter, images, draws, rows, device, precision)
        for row, (index, image) in enumerate(zip(indices, images, strict=True)):
            again = [found[rows.index(row)] for found in by_draw] if row in rows else []
            yield index, image, labels[row], again


@torch.inference_mode()
def _segment(
    segmenter: Segmenter,
    images: torch.Tensor,
    draws: FinalDraws | None,
    rows: list[int],
    device: torch.device,
    precision: Precision,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels (B, h, w), and per draw those of some rows, (len(rows), h, w)."""
    embedding = _embed(segmenter, images, device, precision)
    labels = _label(segmenter.scores(embedding), images)
    if draws is None or not rows:
        return labels, []
    return labels, [_label(draws.scores(embedding[rows], draw), images) for draw in range(draws.count)]


def _embed(segmenter: Segmenter, images: torch.Tensor, device: torch.device, precision: Precision) -> torch.Tensor:
    with autocast(device, precision):
        return segmenter.embed(normalise(images.to(device, non_blocking=True)))


def _label(scores: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    scores = F.interpolate(scores.float(), images.shape[-2:], mode="bilinear", align_corners=False)
    labels: np.ndarray = scores.argmax(1).cpu().numpy()
    return labels
