"""Places that two views of an image share, and what their maps say there."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pipeline.data.views import Geometric


def shared_places(first: Geometric, second: Geometric, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move unit coordinates into the part of the frame that both crops show.

    Args:
        first: Crops of view 1.
        second: Crops of view 2.
        places: float32 (B, M, 2), x and y in 0..1.

    Returns:
        float32 (B, M, 2) in fractions of the frame, and bool (B,): whether the crops overlap at all.
    """
    low = torch.maximum(first.boxes[:, :2], second.boxes[:, :2])
    high = torch.minimum(first.boxes[:, 2:], second.boxes[:, 2:])
    overlap = (high > low).all(1)
    return low[:, None] + places * (high - low)[:, None], overlap


def nearby_places(places: torch.Tensor, offsets: torch.Tensor, crop: Geometric) -> torch.Tensor:
    """Move places a little, but not out of a crop.

    Args:
        places: float32 (B, M, 2), x and y in fractions of the frame.
        offsets: float32 (B, M, 2), in the same unit.
        crop: The crops (of boxes (B, 4)) that the places stay in.

    Returns:
        float32 (B, M, 2).
    """
    low, high = crop.boxes[:, None, :2], crop.boxes[:, None, 2:]
    return torch.minimum(torch.maximum(places + offsets, low), high)


def read_places(maps: torch.Tensor, crop: Geometric, places: torch.Tensor) -> torch.Tensor:
    """Sample a view's map at places given in fractions of the frame.

    Args:
        maps: float32 (B, D, h, w).
        crop: How the view was cut, mirrored and turned.
        places: float32 (B, M, 2), x and y.

    Returns:
        float32 (B, M, D), bilinear.
    """
    low, high = crop.boxes[:, None, :2], crop.boxes[:, None, 2:]
    inside = (places - low) / (high - low)
    grid = torch.stack(crop.view_place(inside[..., 0], inside[..., 1]), dim=-1)[:, None] * 2 - 1  # (B, 1, M, 2)
    read = F.grid_sample(maps, grid.to(maps.device), padding_mode="border", align_corners=False)  # (B, D, 1, M)
    return read[:, :, 0].transpose(1, 2)


def read_shared(
    maps: torch.Tensor, crops: tuple[Geometric, Geometric], places: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Read both views at the places that they share, view 2 a little beside them.

    Args:
        maps: float32 (2B, D, h, w), of view 1, then of view 2.
        crops: How the views were cut from B frames.
        places: float32 (B, M, 2) in 0..1, within the part that both views show.
        offsets: float32 (B, M, 2), in fractions of the frame.

    Returns:
        float32 (2N, D), all places of view 1, then those of view 2; frames whose crops do not overlap are left out.
    """
    first, second = maps.chunk(2)
    return torch.cat(read_pair((first, second), crops, places, offsets))


def read_pair(
    maps: tuple[torch.Tensor, torch.Tensor],
    crops: tuple[Geometric, Geometric],
    places: torch.Tensor,
    offsets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for two views whose maps differ in size.

    Args:
        maps: float32 (B, D, h, w) each.
        crops: See `read_shared`; likewise the others.
        places: See there.
        offsets: See there.

    Returns:
        Twice float32 (N, D).
    """
    shared, visible = shared_places(*crops, places)  # (B, M, 2), (B,)
    beside = nearby_places(shared, offsets, crops[1])
    visible = visible.to(maps[0].device)
    first, second = read_places(maps[0], crops[0], shared), read_places(maps[1], crops[1], beside)
    return first[visible].flatten(0, 1), second[visible].flatten(0, 1)
