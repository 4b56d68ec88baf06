"""Refuses weights of networks that fit in shape and compute something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from pipeline.errors import InputError

# further blocks of the same shapes: the larger network by the number of blocks in its stages
_DEEPER: dict[str, dict[tuple[int, ...], str]] = {
    "resnet18": {(3, 4, 6, 3): "ResNet-34"},
    "resnet50": {(3, 4, 23, 3): "ResNet-101", (3, 8, 36, 3): "ResNet-152"},
    "convnext_tiny": {(3, 3, 27, 3): "ConvNeXt-S"},
}


def refuse_lookalike_vits(path: Path, backbone: str, prefix: str, given: Mapping[str, torch.Tensor]) -> None:
    """Refuse two kinds of ViT-S.

    Args:
        path: The file.
        backbone: Name of ours.
        prefix: What stood before its keys in the file.
        given: Its tensors by our keys.

    Raises:
        InputError: It has another number of heads, or registers.
    """
    if not backbone.startswith("vit"):
        return
    if "base_encoder." in prefix or "momentum_encoder." in prefix:
        raise InputError(f"{path}: the ViT-S of MoCo v3 has 12 heads and {backbone} has 6; use another checkpoint")
    if registers := {"register_tokens", "reg_token"} & given.keys():
        raise InputError(
            f"{path}: has {registers.pop()}, and {backbone} has no registers; use the weights without registers"
        )


def refuse_deeper(path: Path, backbone: str, wanted: Iterable[str], given: Iterable[str]) -> None:
    """Refuse a network with more blocks, of which the first ones alone would be taken.

    Args:
        path: The file.
        backbone: Name of ours.
        wanted: Its keys.
        given: Those of the file, by our names.

    Raises:
        InputError: The stages have further blocks in the file; the message names the network that has so many.
    """
    ours, theirs = (
        {block for key in keys if (block := _block_of(key, backbone)) is not None} for keys in (wanted, given)
    )
    if not (further := sorted(theirs - ours)):
        return
    counts = Counter(stage for stage, _ in theirs)
    depths = tuple(counts[stage] for stage in sorted(counts))
    likely = _DEEPER.get(backbone, {}).get(depths, "a deeper network")
    place = "block {1} of stage {0}".format(*further[0])
    raise InputError(
        f"{path}: has {len(theirs)} blocks and {backbone} has {len(ours)}, as in {likely} (the first more: {place}); "
        f"the blocks that fit compute something else alone, so give weights of {backbone}"
    )


def _block_of(key: str, backbone: str) -> tuple[int, int] | None:
    """Stage and number of the block that a tensor is of, both from 0; None outside of blocks.

    >>> _block_of("stages.2.1.26.block.0.weight", "convnext_tiny"), _block_of("stages.2.5.conv1.weight", "resnet50")
    ((2, 26), (2, 5))
    """
    first, *parts = key.split(".")
    if backbone.startswith("vit"):  # blocks without stages
        parts.insert(0, "0")
    elif backbone.startswith("convnext") and parts[:1] != ["0"]:  # there the downsampling comes first
        parts = [*parts[:1], *parts[2:]] if parts[1:2] == ["1"] else []
    stage, block = (*parts, "", "")[:2]
    return (int(stage), int(block)) if first == "stages" and stage.isdigit() and block.isdigit() else None
