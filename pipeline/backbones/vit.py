"""Vision transformers of timm with random weights (Dosovitskiy et al. 2021), for frames of any size."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.backbone import Backbone
from pipeline.errors import InputError

VitFeatures = Literal["token", "key"]
GRID_PIXELS = 224  # side of the images that the position embeddings are made for, as in published weights


class PatchStem(nn.Module):
    """Images to tokens: the class token, then the patches row by row, with their positions added.

    Attributes:
        project: The convolution that embeds a patch.
        class_token: (1, 1, D).
        positions: (1, 1 + g * g, D); those of the patches are interpolated to the frame at hand.
    """

    def __init__(self, project: nn.Conv2d, class_token: nn.Parameter, positions: nn.Parameter) -> None:
        super().__init__()
        self.project = project
        self.class_token = class_token
        self.positions = positions

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to tokens (B, 1 + h * w, D)."""
        patches = self.project(images)  # (B, D, h, w)
        positions = resize_positions(self.positions, (patches.shape[2], patches.shape[3]))
        tokens = patches.flatten(2).transpose(1, 2)  # (B, h * w, D)
        return torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + positions


class VisionTransformer(Backbone):
    """A ViT that returns one map, at the stride of its patches.

    Attributes:
        stages: The blocks.
        norm: The last layer norm, after the blocks.
        features: `token`: the map holds the patches after the last block and norm; `key`: the keys of the last
            block's attention, of all heads side by side, which follow parts of objects more closely (Amir et al.
            2022). Then the rest of that block and the norm get no gradient from the map.
    """

    names = ("last",)
    norm: nn.Module

    def __init__(
        self, stem: PatchStem, blocks: list[nn.Module], norm: nn.Module, *, features: VitFeatures = "token"
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(blocks)
        self.norm = norm
        self.features = features
        self.widths = (stem.project.out_channels,)
        self.strides = (int(stem.project.stride[0]),)

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run all blocks and the norm.

        Args:
            tokens: (B, N, D) as the stem gives them: all, or some of them, as masked pre-training needs.

        Returns:
            (B, N, D); the class token is the first if it was the first.
        """
        for block in self.stages:
            tokens = block(tokens)
        encoded: torch.Tensor = self.norm(tokens)
        return encoded

    def keys(self, tokens: torch.Tensor) -> torch.Tensor:
        """Keys of the last block's attention: (B, N, D) as the stem gives them to (B, N, D)."""
        for block in self.stages[:-1]:
            tokens = block(tokens)
        last = self.stages[-1]
        normed = last.get_submodule("norm1")(tokens)
        keys: torch.Tensor = last.get_submodule("attn.qkv")(normed).chunk(3, dim=2)[1]
        return keys

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encode.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            One map (B, D, H / stride, W / stride).
        """
        tokens = self.stem(images)
        tokens = self.encode(tokens) if self.features == "token" else self.keys(tokens)
        h, w = (side // self.strides[0] for side in images.shape[-2:])
        return [tokens[:, 1:].transpose(1, 2).unflatten(2, (h, w))]


def resize_positions(positions: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Interpolate position embeddings (bicubic), but for that of the class token.

    Args:
        positions: float32 (1, 1 + g * g, D), of a square grid of patches.
        size: h and w of the grid that is asked for.

    Returns:
        float32 (1, 1 + h * w, D); the same tensor where the grid is the same.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if size == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))  # (1, D, g, g)
    grid = F.interpolate(grid, size, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def build_vit_small(patch: int, features: VitFeatures) -> VisionTransformer:
    """ViT-S (width 384, 12 blocks, 6 heads) with random weights.

    Args:
        patch: Side of a patch in pixels.
        features: See `VisionTransformer`.

    Raises:
        InputError: timm is not installed.
    """
    try:
        from timm.models.vision_transformer import VisionTransformer as Net
    except ImportError:
        raise InputError(
            f"pretrain.backbone: vit_small_patch{patch} needs timm, which is not installed; "
            "run `pip install -e '.[vit]'` in the project's folder"
        ) from None
    net = Net(img_size=GRID_PIXELS, patch_size=patch, embed_dim=384, depth=12, num_heads=6, num_classes=0)
    stem = PatchStem(net.patch_embed.proj, net.get_parameter("cls_token"), net.get_parameter("pos_embed"))
    return VisionTransformer(stem, list(net.blocks), net.norm, features=features)
