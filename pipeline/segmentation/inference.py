"""From images to label maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.params import Precision, RefineParams
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.sparing import Portions
from pipeline.segmentation.draws import FinalDraws
from pipeline.segmentation.mean_field import refine_scores
from pipeline.segmentation.model import Segmenter


class SegmentedImage(NamedTuple):
    """An image and its clusters.

    Attributes:
        number: Its index.
        image: uint8 (3, h, w).
        labels: Clusters, int64 (h, w).
        draws: Those of each further final clustering that was asked for.
        refined: Those after refinement, if that was asked for.
    """

    number: int
    image: torch.Tensor
    labels: np.ndarray
    draws: list[np.ndarray]
    refined: np.ndarray | None


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
    return _label(_enlarge(segmenter.scores(_embed(segmenter, images, device, precision)), images))


def segment_batches(
    segmenter: Segmenter,
    batches: Iterator[tuple[list[int], torch.Tensor]],
    *,
    device: torch.device,
    precision: Precision,
    draws: FinalDraws | None = None,
    drawn: Collection[int] = (),
    refine: RefineParams | None = None,
    refined: Collection[int] = (),
    spare: bool = False,
) -> Iterator[SegmentedImage]:
    """Segment a stream of batches; every image is embedded once.

    Args:
        segmenter: The network with its chosen prototypes.
        batches: Indices and uint8 images (B, 3, h, w).
        device: Where to compute.
        precision: Of the network; scores are float32.
        draws: Further final clusterings.
        drawn: Indices of the images that these label as well.
        refine: How scores are refined.
        refined: Indices of the images whose scores are.
        spare: Whether batches are halved where the device has too little memory.

    Yields:
        The images, in the order of the batches.
    """
    segmenter = segmenter.to(device).to(memory_format=torch.channels_last).eval()
    draws = draws.to(device) if draws else None
    portions = Portions(spare)

    def segment(batch: tuple[list[int], torch.Tensor], part: slice) -> list[SegmentedImage]:
        indices, images = batch[0][part], batch[1][part]
        embedding, enlarged = _score(segmenter, images, device, precision)
        labels = _label(enlarged)
        rows = [row for row, index in enumerate(indices) if draws and index in drawn]
        by_draw = (
            [_label_draw(embedding[rows], images, draws, draw) for draw in range(draws.count)] if draws and rows else []
        )
        found = []
        for row, (index, image) in enumerate(zip(indices, images, strict=True)):
            again = [labelled[rows.index(row)] for labelled in by_draw] if row in rows else []
            best = None
            if refine and index in refined:
                best = refine_scores(enlarged[row], image, refine).argmax(0).cpu().numpy()
            found.append(SegmentedImage(index, image, labels[row], again, best))
        return found

    for batch in batches:
        for found in portions.run(partial(segment, batch), len(batch[0])):
            yield from found


@torch.inference_mode()
def _score(
    segmenter: Segmenter, images: torch.Tensor, device: torch.device, precision: Precision
) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding (B, D, h, w), and the scores at the images' size, (B, K, H, W)."""
    embedding = _embed(segmenter, images, device, precision)
    return embedding, _enlarge(segmenter.scores(embedding), images)


@torch.inference_mode()
def _label_draw(embedding: torch.Tensor, images: torch.Tensor, draws: FinalDraws, draw: int) -> np.ndarray:
    """Labels of some images in one draw, (rows, H, W)."""
    return _label(_enlarge(draws.scores(embedding, draw), images))


def _embed(segmenter: Segmenter, images: torch.Tensor, device: torch.device, precision: Precision) -> torch.Tensor:
    with autocast(device, precision):
        return segmenter.embed(normalise(copy_to(device, images)))


def _enlarge(scores: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores.float(), images.shape[-2:], mode="bilinear", align_corners=False)


def _label(scores: torch.Tensor) -> np.ndarray:
    labels: np.ndarray = scores.argmax(1).cpu().numpy()
    return labels
