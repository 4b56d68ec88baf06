"""Finds marks in a file of weights that labels were used to train it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from pipeline.errors import InputError

SIDECARS = ("backbone.json", "segmenter.json")
# the last layer of networks that tell classes apart, right beside their backbone
_CLASSES = (
    "fc.weight",
    "head.weight",
    "head.fc.weight",
    "heads.head.weight",
    "classifier.weight",
    "classifier.2.weight",
)
# what segmentation and detection put behind a backbone, wherever that lies
_DENSE = re.compile(r"(^|\.)(classifier|aux_classifier|decode_head|roi_heads|rpn|conv_seg|cls_score)\.")
# MoCo v1 projects with a single layer (He et al. 2020). MoCo v2 and v3 (`fc.0`, `head.0`…) and DINO (`head.mlp`,
# `head.last_layer`) have names that no head for classes has.
_PROJECTION = re.compile(r"(^|\.)encoder_[qk]\.(0\.)?fc\.weight$")


def find_head(tensors: Mapping[str, torch.Tensor], prefixes: Iterable[str], prefix: str, width: int) -> str:
    """Find a head that is trained with labels: of classification, segmentation or detection.

    Projections of self-supervised training do not count.

    Args:
        tensors: All of the file.
        prefixes: Where networks begin in it.
        prefix: That of the backbone which is taken.
        width: Channels of the backbone's last map.

    Returns:
        A layer of the head with its number of rows; empty if there is none.
    """
    places = dict.fromkeys([*prefixes, *(_parent(place) for place in prefixes)])
    for name in (place + head for place in places for head in _CLASSES):
        weight = tensors.get(name)
        if weight is not None and weight.ndim >= 2 and weight.shape[1] == width and not _is_projection(name, weight):
            return f"{name} with {weight.shape[0]} rows"
    layers = [name for name, value in tensors.items() if value.ndim >= 2 and _DENSE.search(name.removeprefix(prefix))]
    return f"{layers[-1]} with {tensors[layers[-1]].shape[0]} rows" if layers else ""


def find_labelled_sidecar(path: Path) -> str:
    """Find the side-car beside FS4's own weights which says that labels were used.

    Args:
        path: The file of weights.

    Returns:
        The name of the side-car; empty if there is none, or it says otherwise.

    Raises:
        InputError: A side-car cannot be read.
    """
    for sidecar in map(path.with_name, SIDECARS):
        if not sidecar.is_file():
            continue
        try:
            notes = json.loads(sidecar.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{sidecar}: not JSON ({error}), so nobody knows whether labels were used for {path.name}; copy both "
                "files again"
            ) from None
        if isinstance(notes, dict) and notes.get("labels_used"):
            return sidecar.name
    return ""


def _parent(prefix: str) -> str:
    """`module.` of `module.backbone.`, and nothing of `module.`."""
    return prefix[: prefix.rstrip(".").rfind(".") + 1]


def _is_projection(name: str, weight: torch.Tensor) -> bool:
    """Projections have a power of two of rows (128 in MoCo v1), which numbers of classes have hardly ever."""
    return _PROJECTION.search(name) is not None and weight.shape[0].bit_count() == 1
