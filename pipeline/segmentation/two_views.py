"""Two random views of a batch, and their embeddings pixel by pixel (after PiCIE, Cho et al. 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from pipeline.data.views import (
    Geometric,
    apply_geometric,
    apply_photometric,
    draw_geometric,
    draw_photometric,
    normalise,
)
from pipeline.params import Precision, TrainParams
from pipeline.runtime.device import autocast, copy_to
from pipeline.segmentation.model import Segmenter


class Views(NamedTuple):
    """Two views of a batch, ready for the network.

    Attributes:
        first: float32 (B, 3, H, W), view 1 after its photometric and the geometric transform.
        second: float32 (B, 3, H, W), view 2 after its photometric transform alone; None where nothing asks for it.
        crop: The geometric transform that both share; for view 2 it is applied to the embedding.
    """

    first: torch.Tensor
    second: torch.Tensor | None
    crop: Geometric


class ViewEmbeddings(NamedTuple):
    """Embeddings of two views, float32 (B, D, h, w), unit norm.

    Attributes:
        one: Of view 1.
        two: Of view 2, cut like view 1, so that equal places show the same spot; None without view 2.
        whole: Of view 2 before its geometric transform; None without view 2.
    """

    one: torch.Tensor
    two: torch.Tensor | None
    whole: torch.Tensor | None

    def pixels(self) -> tuple[torch.Tensor, ...]:
        """The embeddings that are clustered pixel by pixel: of view 1, and of view 2 if there is one."""
        return (self.one,) if self.two is None else (self.one, self.two)


def make_views(
    images: torch.Tensor,
    indices: list[int],
    epoch: int,
    params: TrainParams,
    device: torch.device,
    *,
    second: bool = True,
) -> Views:
    """Draw the views of a batch, a function of (seed, epoch, image) alone.

    Args:
        images: uint8 (B, 3, H, W).
        indices: The images' indices.
        epoch: Index of the epoch.
        params: Group `train`.
        device: Where the views are made.
        second: Whether to make view 2 as well.
    """
    seed, views = params.seed, params.views
    frames = copy_to(device, images).float() / 255.0
    crop = draw_geometric(
        seed,
        "train crop",
        epoch,
        indices,
        min_area=views.min_area,
        flip=views.flip,
        flip_vertical=views.flip_vertical,
        rotate=views.rotate,
    )

    def coloured(view: int) -> torch.Tensor:
        change = draw_photometric(seed, f"train colours {view}", epoch, indices, jitter=views.jitter, hue=views.hue)
        return apply_photometric(frames, change)

    first = apply_geometric(coloured(1), crop, (frames.shape[2], frames.shape[3]))
    return Views(normalise(first), normalise(coloured(2)) if second else None, crop)


def embed_views(segmenter: Segmenter, views: Views, precision: Precision) -> ViewEmbeddings:
    """Embed the views, two of them in one pass of the network."""
    with autocast(views.first.device, precision):
        if views.second is None:
            return ViewEmbeddings(segmenter.embed(views.first), None, None)
        one, whole = segmenter.embed(torch.cat([views.first, views.second])).chunk(2)
    two = F.normalize(apply_geometric(whole, views.crop, (whole.shape[2], whole.shape[3])), dim=1)
    return ViewEmbeddings(one, two, whole)


def view_distance(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Mean squared distance between the embeddings of the same spots, a scalar in 0..4 (the MSE variant of PiCIE).

    Args:
        one: float32 (B, D, h, w), unit norm; likewise `two`.
        two: See `one`.
    """
    return (one - two).square().sum(1).mean()
