"""Makes tensors of other shapes fit where the function that they stand for stays (nearly) the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from pipeline.backbones.vit import resize_positions


def fit_tensors(
    given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str], set[str]]:
    """Bring a file's tensors to the shapes of a network.

    Args:
        given: Tensors of the file, by the network's keys; it may have more.
        wanted: State of the network.

    Returns:
        The tensors that fit, as float32; what was done to some; the keys whose shapes cannot be made to agree, with
        both shapes; and the keys of `given` that are used, those of folded layer scales included.
    """
    fitted, adapted, others = {}, [], []
    scales = _layer_scales(given)
    for key, own in wanted.items():
        if key not in given:
            continue
        value = given[key].to(own.dtype)
        shape = tuple(value.shape)
        if value.shape != own.shape:
            value = _reshape(key, value, own)
        if value.shape != own.shape:
            others.append(f"{key}: shape {shape} instead of {tuple(own.shape)}")
            continue
        if tuple(value.squeeze().shape) != tuple(given[key].squeeze().shape):
            adapted.append(f"{key}: from shape {shape}")
        if key in scales:
            scale = given[scales[key]].to(own.dtype)
            value = value * (scale[:, None] if value.ndim == 2 else scale)
        fitted[key] = value
    if scales:
        adapted.append(f"{len(set(scales.values()))} layer scales: multiplied into the weights before them")
    return fitted, adapted, others, (given.keys() & wanted.keys()) | set(scales.values())


def resize_patches(weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize the patches of a ViT so that resized images give the same tokens (Beyer et al. 2023, eq. 4).

    Args:
        weight: float32 (D, C, p, p).
        size: The new p, twice.

    Returns:
        float32 (D, C, *size).
    """
    old = weight.shape[2] * weight.shape[3]
    basis = torch.eye(old).view(old, 1, *weight.shape[2:])
    resized = F.interpolate(basis, size, mode="bicubic", antialias=True, align_corners=False).flatten(1)  # (old, new)
    return (weight.flatten(2) @ torch.linalg.pinv(resized).T).view(*weight.shape[:2], *size)


def _reshape(key: str, value: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    if value.squeeze().shape == own.squeeze().shape:
        return value.view(own.shape)
    if key == "stem.positions" and value.ndim == 3 and value.shape[2] == own.shape[2]:
        grids = [round((tensor.shape[1] - 1) ** 0.5) for tensor in (value, own)]
        return resize_positions(value, (grids[1], grids[1])) if grids[0] ** 2 == value.shape[1] - 1 else value
    if not re.fullmatch(r"stem\.(0|project)\.weight", key) or value.ndim != 4 or value.shape[0] != own.shape[0]:
        return value
    if value.shape[1] != own.shape[1]:  # other input channels: each gets the mean, and the sum stays
        value = value.mean(1, keepdim=True).expand(-1, own.shape[1], -1, -1) * (value.shape[1] / own.shape[1])
    if key == "stem.project.weight" and value.shape != own.shape:
        value = resize_patches(value, (own.shape[2], own.shape[3]))
    return value


def _layer_scales(given: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Weights and biases by the layer scale that multiplies their output, in a ViT (as in DINOv2)."""
    layers = {"ls1": "attn.proj", "ls2": "mlp.fc2"}
    scales: dict[str, str] = {}
    for key in given:
        if found := re.fullmatch(r"(stages\.\d+)\.(ls[12])\.gamma", key):
            scales |= {f"{found[1]}.{layers[found[2]]}.{part}": key for part in ("weight", "bias")}
    return scales
