"""What a pretext method sees of a batch of frames: two views, small extra views, places, and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from pipeline.data.views import (
    Geometric,
    apply_geometric,
    apply_photometric,
    draw_geometric,
    draw_photometric,
    normalise,
)
from pipeline.params import STRIDE, PretrainParams
from pipeline.runtime.randomness import uniforms
from pipeline.training.dealing import Dealing

BELOW_ONE = 1 - 2**-24  # the largest float32 below 1, to which a draw would else be rounded up


@dataclass(frozen=True)
class ExtraView:
    """A small view of a small part of each frame (multi-crop, Caron et al. 2020).

    Attributes:
        view: (B, 3, s, s), normalised.
        crop: How it was cut from the frames.
        places: float32 (B, M, 2) in 0..1; where to compare, within the part that it shares with another view.
        offsets: float32 (B, M, 2); how far it reads from there, in fractions of the frame.
    """

    view: torch.Tensor
    crop: Geometric
    places: torch.Tensor
    offsets: torch.Tensor


@dataclass(frozen=True)
class ViewBatch:
    """One step's input.

    Attributes:
        views: Twice (B, 3, h, w), normalised.
        plain: The same before their colours were changed, float32 in 0..1.
        crops: How each view was cut from its frame.
        places: float32 (B, M, 2) in 0..1; where to compare, within the part that both views show.
        offsets: float32 (B, M, 2); how far view 2 reads from there, in fractions of the frame.
        draw: Given a purpose and a count, numbers in [0, 1) for each image, float32 (B, count); a function of
            (seed, purpose, epoch, image) alone.
        progress: Share of the steps of the whole training that are over, 0..1.
        extra: Small views, where the method asks for them.
        dealing: If several processes share the batch, all of this is of this process's images, and what a method
            compares, normalises or remembers must be gathered first.
    """

    views: tuple[torch.Tensor, torch.Tensor]
    plain: tuple[torch.Tensor, torch.Tensor]
    crops: tuple[Geometric, Geometric]
    places: torch.Tensor
    offsets: torch.Tensor
    draw: Callable[[str, int], torch.Tensor]
    progress: float = 0.0
    extra: tuple[ExtraView, ...] = ()
    dealing: Dealing = field(default_factory=Dealing)


def draw_views(
    frames: torch.Tensor,
    params: PretrainParams,
    epoch: int,
    indices: Sequence[int],
    extra_views: int,
    dealing: Dealing | None = None,
    progress: float = 0.0,
) -> ViewBatch:
    """Cut the views of a step, a function of (seed, epoch, image) alone.

    Extra views show 1/3 to 1 of `views.min_area` on a side of about half of `view_size`: the proportions of SwAV's
    small crops (Caron et al. 2020) without overlap with the large ones' range.

    Args:
        frames: float32 (B, 3, H, W) in 0..1.
        params: Group `pretrain`.
        epoch: Counted from 0.
        indices: Indices of the B images.
        extra_views: Number of small views.
        dealing: The processes that share the batch; None for one.
        progress: Share of the training that is over, 0..1, for methods that change as it goes on.
    """
    least, side = params.views.min_area, params.view_size
    cut = partial(_cut_view, frames, params, epoch, indices)
    views, plain, crops = zip(*(cut(name, side, least, 1.0) for name in ("first", "second")), strict=True)
    places, offsets = _draw_places(params, "pretrain places", epoch, indices)
    extra = []
    for number in range(extra_views):
        name = f"extra {number}"
        view, _, crop = cut(name, small_side(side), least / 3, least)
        extra.append(ExtraView(view, crop, *_draw_places(params, f"pretrain {name} places", epoch, indices)))
    return ViewBatch(
        views=(views[0], views[1]),
        plain=(plain[0], plain[1]),
        crops=(crops[0], crops[1]),
        places=places,
        offsets=offsets,
        draw=lambda purpose, count: (
            torch.from_numpy(uniforms(params.seed, f"pretrain {purpose}", epoch, indices, count))
            .float()
            .clamp(max=BELOW_ONE)
        ),
        progress=progress,
        extra=tuple(extra),
        dealing=dealing or Dealing(),
    )


def small_side(side: int) -> int:
    """Side of the extra views: half of the large ones', rounded to the stride of the backbones."""
    return STRIDE * max(1, (side + STRIDE) // (2 * STRIDE))


def _cut_view(
    frames: torch.Tensor,
    params: PretrainParams,
    epoch: int,
    indices: Sequence[int],
    name: str,
    side: int,
    min_area: float,
    max_area: float,
) -> tuple[torch.Tensor, torch.Tensor, Geometric]:
    views = params.views
    crop = draw_geometric(
        params.seed,
        f"pretrain {name} crop",
        epoch,
        indices,
        min_area=min_area,
        max_area=max_area,
        flip=views.flip,
        flip_vertical=views.flip_vertical,
        rotate=views.rotate,
    )
    colours = draw_photometric(
        params.seed, f"pretrain {name} colours", epoch, indices, jitter=views.jitter, hue=views.hue
    )
    plain = apply_geometric(frames, crop, (side, side))
    return normalise(apply_photometric(plain, colours)), plain, crop


def _draw_places(
    params: PretrainParams, purpose: str, epoch: int, indices: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit places and offsets from them, float32 (B, M, 2) each."""
    drawn = uniforms(params.seed, purpose, epoch, indices, 4 * params.dense_cells)
    places, beside = torch.from_numpy(drawn).float().view(len(indices), 2, params.dense_cells, 2).unbind(1)
    return places, (2 * beside - 1) * params.neighbourhood
