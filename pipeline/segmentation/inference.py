"""From images to label maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Variants:
    """Further label maps of some images, which differ from the first ones in one thing each.

    Attributes:
        refine: How scores are refined, for `refined`; without iterations there is none.
        flip: Whether scores are averaged over an image and its mirror image, for `flip_averaged`.
        images: Indices of the images that get them.
    """

    refine: RefineParams
    flip: bool
    images: Collection[int]


class SegmentedImage(NamedTuple):
    """An image and its clusters.

    Attributes:
        number: Its index.
        image: uint8 (3, h, w).
        labels: Clusters, int64 (h, w).
        draws: Those of each further final clustering that was asked for.
        variants: Those of each variant that was asked for, by its name.
    """

    number: int
    image: torch.Tensor
    labels: np.ndarray
    draws: list[np.ndarray]
    variants: dict[str, np.ndarray]


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
    variants: Variants | None = None,
    spare: bool = False,
) -> Iterator[SegmentedImage]:
    """Segment a stream of batches; every image is embedded once, and its mirror image where that is asked for.

    Args:
        segmenter: The network with its chosen prototypes.
        batches: Indices and uint8 images (B, 3, h, w).
        device: Where to compute.
        precision: Of the network; scores are float32.
        draws: Further final clusterings.
        drawn: Indices of the images that these label as well.
        variants: Further label maps, and of which images.
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
        varied: dict[int, dict[str, np.ndarray]] = {}
        if variants:
            chosen = [row for row, index in enumerate(indices) if index in variants.images]
            varied = _label_variants(segmenter, images, enlarged, chosen, variants, device, precision)
        found = []
        for row, (index, image) in enumerate(zip(indices, images, strict=True)):
            again = [labelled[rows.index(row)] for labelled in by_draw] if row in rows else []
            found.append(SegmentedImage(index, image, labels[row], again, varied.get(row, {})))
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


@torch.inference_mode()
def _label_variants(
    segmenter: Segmenter,
    images: torch.Tensor,
    enlarged: torch.Tensor,
    rows: Sequence[int],
    variants: Variants,
    device: torch.device,
    precision: Precision,
) -> dict[int, dict[str, np.ndarray]]:
    """The variants of some images by row, (H, W) each; `enlarged` holds the scores of all, (B, K, H, W)."""
    found: dict[int, dict[str, np.ndarray]] = {row: {} for row in rows}
    if variants.refine.iterations:
        for row in rows:
            refined = refine_scores(enlarged[row], images[row], variants.refine)
            found[row]["refined"] = _label(refined[None])[0]
    if variants.flip and rows:
        chosen = list(rows)
        _, mirrored = _score(segmenter, images[chosen].flip(-1), device, precision)
        averaged = _label((enlarged[chosen] + mirrored.flip(-1)) / 2)
        for row, labels in zip(chosen, averaged, strict=True):
            found[row]["flip_averaged"] = labels
    return found


def _embed(segmenter: Segmenter, images: torch.Tensor, device: torch.device, precision: Precision) -> torch.Tensor:
    with autocast(device, precision):
        return segmenter.embed(normalise(copy_to(device, images)))


def _enlarge(scores: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores.float(), images.shape[-2:], mode="bilinear", align_corners=False)


def _label(scores: torch.Tensor) -> np.ndarray:
    labels: np.ndarray = scores.argmax(1).cpu().numpy()
    return labels
