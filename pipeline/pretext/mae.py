"""MAE: paint in most of an image from the tokens of the rest (He et al. 2022). For vision transformers.

The backbone encodes only the patches that are shown; a small transformer, which is thrown away, paints the others,
whose pixels are brought to zero mean and unit variance in each patch. How many those are says
`pretrain.masking.ratio`, 0.6 by default. The pyramid decoder learns beside it.

Published: ViT-B/16 at 224 pixels, 75 % masked, decoder of 8 blocks of width 512, AdamW (0.9, 0.95) 1.5e-4 x batch / 256
at batch 4096, weight decay 0.05, 400 to 1600 epochs, crops and mirroring only (preset `pretext-mae`). Here the decoder
has two blocks of width 128, which is much for a small data set already; `pretrain.masking.patch` is not used, as the
backbone has patches of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.backbones.vit import VisionTransformer
from pipeline.data.views import normalise
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import BackboneMethod, Losses
from pipeline.pretext.simmim import draw_masks

WIDTH, BLOCKS, HEADS = 128, 2, 4  # of the transformer that paints
EPSILON = 1e-6


class Mae(BackboneMethod):
    """The encoder with the transformer that paints. The two whole views train the pyramid decoder only."""

    views_teach = False

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        body = encoder.backbone
        if not isinstance(body, VisionTransformer):
            raise TypeError(f"{params.backbone}: MAE takes vision transformers only")  # the parameters were checked
        self.patch = body.strides[0]
        self.enter = nn.Linear(body.widths[0], WIDTH)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(BLOCKS)
            )
        )
        self.paint = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * self.patch**2))

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss and embedding_std, of the class token."""
        body = self.encoder.backbone
        assert isinstance(body, VisionTransformer)  # as `__init__` saw to
        images = normalise(torch.cat(batch.plain))  # (2B, 3, s, s)
        side = images.shape[-1] // self.patch
        N = side * side
        numbers = torch.cat([batch.draw(f"mask of {view} view", N) for view in ("first", "second")])
        masked = draw_masks(numbers, self.params.masking.ratio).to(images.device)  # (2B, N), as many in each
        shown = (~masked).nonzero()[:, 1].view(len(images), -1)  # (2B, M), ascending
        tokens = body.stem(images)
        kept = tokens[:, 1:].gather(1, shown[:, :, None].expand(-1, -1, tokens.shape[2]))
        encoded = body.encode(torch.cat([tokens[:, :1], kept], dim=1))
        entered = self.enter(encoded)
        whole = self.mask_token.to(entered.dtype).expand(len(images), N, -1)
        whole = whole.scatter(1, shown[:, :, None].expand(-1, -1, WIDTH), entered[:, 1:])
        placed = whole + sine_positions(side, WIDTH).to(images.device)
        painted = self.paint(self.blocks(torch.cat([entered[:, :1], placed.to(entered.dtype)], dim=1))[:, 1:])
        loss = patch_error(painted.float(), cut_patches(images, self.patch), masked)
        classes = batch.dealing.gather(encoded[:, 0], 2)
        return {"loss": batch.dealing.mean(loss), "embedding_std": embedding_std(classes)}


def cut_patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Pixels of patches row by row: (B, 3, s, s) to (B, N, 3 * patch * patch)."""
    return F.unfold(images.contiguous(), patch, stride=patch).transpose(1, 2)


def patch_error(painted: torch.Tensor, pixels: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Mean squared difference to the normalised pixels of the masked patches (He et al. 2022, section 3).

    Args:
        painted: float32 (B, N, P).
        pixels: float32 (B, N, P).
        masked: bool (B, N).

    Returns:
        Scalar.
    """
    mean, variance = pixels.mean(2, keepdim=True), pixels.var(2, keepdim=True)
    target = (pixels - mean) / (variance + EPSILON).sqrt()
    return ((painted - target).square().mean(2) * masked).sum() / masked.sum().clamp(min=1)


def sine_positions(side: int, width: int) -> torch.Tensor:
    """Fixed positions of a square grid, half of the channels for rows and half for columns (Vaswani et al. 2017).

    Args:
        side: Patches a side.
        width: Channels, a multiple of 4.

    Returns:
        float32 (1, side * side, width).
    """
    rates = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates  # (side, width / 4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)[None]
