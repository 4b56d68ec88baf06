"""Backbone and decoder as one network, and how its weights are kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pipeline.backbones.backbone import Backbone
from pipeline.backbones.convnext import build_convnext_tiny
from pipeline.backbones.decoder import build_decoder
from pipeline.backbones.inputs import fit_stem
from pipeline.backbones.resnet import build_resnet18, build_resnet50
from pipeline.backbones.vit import VitFeatures, build_vit_small
from pipeline.data.bands import Bands
from pipeline.errors import InputError
from pipeline.runtime.artifacts import Artifact, write_json
from pipeline.runtime.digests import value_digest

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "resnet18": build_resnet18,
    "resnet50": build_resnet50,
    "convnext_tiny": build_convnext_tiny,
}
PATCHES = {"vit_small_patch16": 16, "vit_small_patch8": 8}
LARGEST = {"channels": 4096, "k": 2**15, "fine_clusters": 2**15}  # so that a side-car cannot ask for all memory
NO_NETWORK = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)  # of wrong side-cars
Source = Literal["res4", "res5", "last", "decoder"]


class Encoder(nn.Module):
    """Backbone with its decoder.

    Attributes:
        architecture: What `build_encoder` needs to make the same network again.
    """

    def __init__(self, backbone: Backbone, decoder: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.architecture = architecture

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to decoder features (B, D, H/4, W/4)."""
        decoded: torch.Tensor = self.decoder(self.backbone(images))
        return decoded

    def forward_map(self, images: torch.Tensor, source: Source) -> torch.Tensor:
        """One map of normalised images (B, 3, H, W): `last` is the backbone's coarsest.

        Raises:
            InputError: The backbone has no such map.
        """
        if source == "decoder":
            return self(images)
        return self.backbone(images)[self._index(source)]

    def map_width(self, source: Source) -> int:
        """Channels of that map.

        Raises:
            InputError: The backbone has no such map.
        """
        return int(self.architecture["channels"]) if source == "decoder" else self.backbone.widths[self._index(source)]

    def _index(self, source: Source) -> int:
        names = self.backbone.names
        if source == "last":
            return len(names) - 1
        if source not in names:
            raise InputError(
                f"extract.source: {source} is no map of {self.architecture['backbone']}, which has "
                f"{', '.join(names)}; give last or decoder"
            )
        return names.index(source)


def build_encoder(
    backbone: str,
    channels: int,
    seed: int,
    vit_features: VitFeatures = "token",
    *,
    inputs: dict[str, Any] | None = None,
) -> Encoder:
    """Build a network with random weights.

    Args:
        backbone: A name of `BACKBONES` or `PATCHES`.
        channels: D, channels of the decoder's map.
        seed: Seed of the weights; torch's global generator is left as it was.
        vit_features: What the map of a ViT holds; other backbones have no use for it.
        inputs: For images of other channels than RGB their scale and statistics, of which `mean` and `std` are used.

    Raises:
        InputError: A ViT is asked for, and timm is not installed.
    """
    patch = PATCHES.get(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_vit_small(patch, vit_features) if patch else BACKBONES[backbone]()
        if inputs:
            fit_stem(body, inputs["mean"], inputs["std"])
        decoder = build_decoder(body.widths, body.strides, channels)
    architecture = {"backbone": backbone, "channels": channels} | ({"inputs": inputs} if inputs else {})
    return Encoder(body, decoder, architecture | ({"vit_features": vit_features} if patch else {}))


def save_encoder(encoder: Encoder, folder: Path, notes: dict[str, Any]) -> None:
    """Write `weights.safetensors` and the side-car `backbone.json`."""
    save_weights(encoder, folder / "weights.safetensors")
    write_json(folder / "backbone.json", {"architecture": encoder.architecture, "labels_used": False, **notes})


def load_encoder(artifact: Artifact) -> Encoder:
    """Load what `save_encoder` wrote.

    Raises:
        InputError: The files are damaged, or the weights do not fit the architecture.
    """
    try:
        architecture = artifact.json("backbone.json")["architecture"]
        check_sizes(architecture)
        encoder = build_encoder(**architecture, seed=0)
    except NO_NETWORK as error:
        raise InputError(f"{artifact.path}: backbone.json describes no network ({error!r}); run `dvc repro`") from None
    load_weights(encoder, artifact.file("weights.safetensors"))
    return encoder


def check_sizes(architecture: dict[str, Any]) -> None:
    """Refuse a network of absurd size before it is built.

    Raises:
        ValueError: A number is out of range; TypeError where it is none.
    """
    for key, most in LARGEST.items():
        if not 0 <= architecture.get(key, 0) <= most:
            raise ValueError(f"{key} beyond {most}")
    if inputs := architecture.get("inputs"):
        Bands.from_notes(inputs)


def digest_encoder(artifact: Artifact) -> str:
    """SHA-256 of weights and architecture, whatever else is noted beside them."""
    architecture = artifact.json("backbone.json")["architecture"]
    return value_digest([artifact.manifest["files"]["weights.safetensors"]["sha256"], architecture])


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state as safetensors, on the CPU and in the plain memory layout."""
    from safetensors.torch import save

    # not `save_file`, whose error for a full disk is no OSError
    path.write_bytes(save({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}))


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file.

    Raises:
        InputError: The file is not safetensors, or its keys, shapes or types differ; the message lists the differences.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); rebuild it with `dvc repro`") from None
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected.keys() - weights.keys()]
    problems += [f"unexpected {key}" for key in weights.keys() - expected.keys()]
    problems += [
        f"{key}: shape {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    problems += [
        f"{key}: {weights[key].dtype} instead of {expected[key].dtype}"
        for key in expected.keys() & weights.keys()
        if weights[key].dtype != expected[key].dtype
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:10])
        raise InputError(f"{path}: weights of another network ({len(problems)} differences: {shown}); run `dvc repro`")
    module.load_state_dict(weights)
