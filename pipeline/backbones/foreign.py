"""Weights that others have saved: read without running any code, and renamed to the keys of our backbones."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import InputError

Rename = Callable[[str], str]

# the key of a first layer in each naming, by which a prefix is found
ANCHORS = {
    "resnet": ("conv1.weight", "stem.0.weight"),
    "convnext": ("features.0.0.weight", "downsample_layers.0.0.weight", "stem.0.weight"),
    "vit": ("patch_embed.proj.weight", "stem.project.weight"),
}
_CONVNEXT_LAYERS = {  # of timm, and of the authors
    "conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5",
    "dwconv": "block.0", "pwconv1": "block.3", "pwconv2": "block.5", "gamma": "layer_scale",
}  # fmt: skip


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a file, however deep they lie in dictionaries.

    Args:
        path: A safetensors file (`.safetensors`), or any other name for what `torch.save` wrote.

    Returns:
        Tensors by dotted key, such as `state_dict.module.conv1.weight`, on the CPU.

    Raises:
        InputError: The file is missing or damaged, has no tensors, or holds objects that only code could make.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; pretrain.checkpoint must name a file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(path)
        else:
            # the plain record of arguments that many training scripts save beside the weights
            with torch.serialization.safe_globals([argparse.Namespace]):
                tensors = dict(_flatten(torch.load(path, map_location="cpu", weights_only=True)))
    except pickle.UnpicklingError as error:
        reason = re.sub(r"\s+", " ", str(error).split("GLOBAL")[-1])[:80].strip()
        raise InputError(
            f"{path}: holds more than tensors and plain values ({reason}), which is refused because loading it could "
            "run any code; where you trust it, save model.state_dict() alone to a new file"
        ) from None
    except Exception as error:  # damaged files make torch raise nearly every kind of exception
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: cannot be read as weights ({reason}); fetch the file again") from None
    if not tensors:
        raise InputError(f"{path}: holds no tensors; give a file with a state dict")
    return tensors


def find_prefixes(names: list[str], family: str) -> list[str]:
    """Beginnings under which the backbone may lie, in the order of the file, without repetition.

    Args:
        names: All keys of the file.
        family: A key of `ANCHORS`.
    """
    found = [
        name.removesuffix(anchor)
        for name in names
        for anchor in ANCHORS[family]
        if name == anchor or name.endswith(f".{anchor}")
    ]
    return list(dict.fromkeys(found))


def rename_resnet(name: str) -> str:
    """From the keys of torchvision and timm; ours stay as they are.

    >>> rename_resnet("layer2.0.conv1.weight")
    'stages.1.0.conv1.weight'
    """
    name = re.sub(r"^conv1\.", "stem.0.", re.sub(r"^bn1\.", "stem.1.", name))
    return re.sub(r"^layer([1-4])\.", lambda found: f"stages.{int(found[1]) - 1}.", name)


def rename_convnext(name: str) -> str:
    """From the keys of torchvision, of timm and of the authors; ours stay as they are.

    >>> rename_convnext("features.3.0.block.0.weight"), rename_convnext("stages.1.blocks.0.mlp.fc1.bias")
    ('stages.1.1.0.block.0.weight', 'stages.1.1.0.block.3.bias')
    """
    if found := re.fullmatch(r"features\.(\d)\.(.+)", name):
        layer, rest = int(found[1]), found[2]
        if layer == 0:
            return f"stem.{rest}"
        return f"stages.0.{rest}" if layer == 1 else f"stages.{layer // 2}.{layer % 2}.{rest}"
    if found := re.fullmatch(r"(?:downsample_layers\.(\d)|stages\.(\d)\.downsample)\.(.+)", name):
        stage, rest = found[1] or found[2], found[3]
        return f"stem.{rest}" if stage == "0" else f"stages.{stage}.0.{rest}"
    layers = "|".join(map(re.escape, _CONVNEXT_LAYERS))
    if found := re.fullmatch(rf"stages\.(\d)\.(?:blocks\.)?(\d+)\.({layers})(\..+)?", name):
        stage, block, layer_name, rest = found[1], found[2], found[3], found[4] or ""
        inside = block if stage == "0" else f"1.{block}"
        return f"stages.{stage}.{inside}.{_CONVNEXT_LAYERS[layer_name]}{rest}"
    return name


def rename_vit(name: str) -> str:
    """From the keys of timm, DINO, DINOv2 (with its chunks of blocks) and MAE; ours stay as they are.

    >>> rename_vit("blocks.0.3.attn.qkv.weight"), rename_vit("cls_token")
    ('stages.3.attn.qkv.weight', 'stem.class_token')
    """
    whole = {"cls_token": "stem.class_token", "pos_embed": "stem.positions"}
    name = whole.get(name, name).replace("patch_embed.proj.", "stem.project.")
    return re.sub(r"^blocks\.(?:\d+\.)?(\d+)\.", r"stages.\1.", name)


RENAMES: dict[str, Rename] = {"resnet": rename_resnet, "convnext": rename_convnext, "vit": rename_vit}


def name_layout(prefix: str, names: list[str]) -> str:
    """Say whose layout a file has; for the record only, since keys are matched by what they are.

    Args:
        prefix: What stands before the backbone's keys.
        names: All keys of the file.
    """
    own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    text = "\n".join(names)
    markers = {
        "FS4": any(re.match(r"stem\.project\.|stages\.\d\.(\d\.)?\d\.(block\.|conv)", name) for name in own),
        "DenseCL": "encoder_q.0." in text or ("backbone." in prefix and "neck." in text),
        "MoCo": "encoder_q." in prefix or "encoder_k." in prefix,
        "MoCo v3": "base_encoder." in prefix or "momentum_encoder." in prefix,
        "DINOv2": "mask_token" in text and "ls1.gamma" in text,
        "DINO": "teacher." in prefix or "student." in prefix,
        "MAE": "decoder_embed." in text or "decoder_blocks." in text,
        "SwAV": "prototypes." in text or "projection_head." in text,
        "ConvNeXt": any(name.startswith("downsample_layers.") for name in own),
        "torchvision": any(name.startswith("features.") for name in own),
        "torchvision or timm": any(name.startswith("layer1.") for name in own),
    }
    return next((layout for layout, holds in markers.items() if holds), "timm")


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name.removesuffix("."), value.detach()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}{key}.")
