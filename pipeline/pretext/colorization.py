"""Colorization: tell the colours of a gray image (Zhang et al. 2016).

The network sees the lightness L of CIELAB in all three channels and gives, at every place of the decoder's map, a
distribution over bins of the a-b plane. Bins, not a regression: where several colours are possible a regression gives
their mean, which is gray, and learns little from what it cannot know; a distribution may have two peaks. As in the
paper, the truth is spread over the five nearest bins, and rare colours weigh more. There are 313 bins, as many as
published, see `colour_bins`.

Published: VGG-like network at 256 pixels, Adam 3e-5, weight decay 1e-3, batch 40, 450 000 steps (preset
`pretext-colorization`). Later stages show the network colours, which it never saw; useless for gray images.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.data.views import normalise
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import Losses, PretextMethod, pool_map

BIN = 10.0  # width of a bin, in units of a and b
MARGIN = 13.5  # farthest centre of a bin from what sRGB shows; 13.3 to 13.7 give the same bins
REACH = 120.0  # no centre of a bin lies farther out, in a or b
NEIGHBOURS, SPREAD = 5, 5.0  # of the truth, in bins and in units of a and b
EVEN_SHARE = 0.5  # of the even distribution in the one that weights are made of
KEPT = 0.99  # share of the old frequencies that a step keeps


class Colorization(PretextMethod):
    """The encoder with a classifier of colours, and how often each bin has come so far."""

    bins: torch.Tensor
    frequency: torch.Tensor

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        bins = colour_bins()
        self.classify = nn.Conv2d(encoder.architecture["channels"], len(bins), 1)
        self.register_buffer("bins", bins)
        self.register_buffer("frequency", torch.full((len(bins),), 1 / len(bins)))

    def forward(self, batch: ViewBatch) -> Losses:
        """Scalars loss and embedding_std."""
        plain = torch.cat(batch.plain)  # (2B, 3, H, W)
        with torch.autocast(plain.device.type, enabled=False):  # bfloat16 has steps of half a unit of a and b
            lab = to_lab(plain)
        gray = normalise((lab[:, :1] / 100).expand(-1, 3, -1, -1))
        maps = self.encoder.backbone(gray)
        logits = self.classify(self.encoder.decoder(maps)).float()  # (2B, bins, h, w)
        colours = F.interpolate(lab[:, 1:], logits.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
        logits, colours = (part.transpose(0, 1).flatten(1).T for part in (logits, colours))  # (N, bins), (N, 2)
        with torch.autocast(plain.device.type, enabled=False):
            nearest, shares = spread_colours(colours, self.bins)
        if self.training:
            seen = torch.zeros_like(self.frequency).index_add_(0, nearest.flatten(), shares.flatten()) / len(shares)
            seen = batch.dealing.mean(seen)
            if not batch.dealing.total((~torch.isfinite(logits)).any().float()):
                self.frequency.lerp_(seen, 1 - KEPT)
        loss = batch.dealing.mean(colour_loss(logits, nearest, shares, rarity_weights(self.frequency)))
        return {"loss": loss, "embedding_std": embedding_std(batch.dealing.gather(pool_map(maps), 2))}


def to_lab(images: torch.Tensor) -> torch.Tensor:
    """sRGB in 0..1 to CIELAB under D65: L in 0..100, a and b about -110..110; (B, 3, H, W)."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
        device=images.device,
    )
    to_xyz = to_xyz / to_xyz.sum(1, keepdim=True)  # relative to white
    x, y, z = torch.einsum("ij,bjhw->ibhw", to_xyz, linear)
    x, y, z = (
        torch.where(part > (6 / 29) ** 3, part.clamp(min=1e-6) ** (1 / 3), part / (3 * (6 / 29) ** 2) + 4 / 29)
        for part in (x, y, z)
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@cache
def colour_bins() -> torch.Tensor:
    """Centres of the 313 bins of the a-b plane, float32 (313, 2), in ascending order.

    Of a grid, those in or near the gamut of sRGB. The paper does not say how the authors chose their 313
    (`pts_in_hull`): 309 are the same, the four others lie beyond the gamut here and there, nearest to no colour.
    """
    level = torch.linspace(0, 1, 33)
    colours = torch.cartesian_prod(level, level, level).T[None, :, :, None]  # (1, 3, 33^3, 1)
    shown = to_lab(colours)[0, 1:, :, 0].T  # (33^3, 2)
    line = torch.arange(-REACH, REACH + 1, BIN)
    grid = torch.cartesian_prod(line, line)
    distance = torch.cdist(grid, shown, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
    return grid[distance <= MARGIN]


def spread_colours(colours: torch.Tensor, bins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The truth as a distribution over the nearest bins (Zhang et al. 2016, section 2.1).

    Args:
        colours: float32 (N, 2), a and b.
        bins: float32 (Q, 2).

    Returns:
        int64 (N, 5) bins, and float32 (N, 5) their shares, which sum to 1.
    """
    distance, nearest = torch.cdist(colours, bins).topk(NEIGHBOURS, dim=1, largest=False)
    return nearest, (-distance.square() / (2 * SPREAD**2)).softmax(1)


def rarity_weights(frequency: torch.Tensor) -> torch.Tensor:
    """Weights of the bins, larger for rare ones, of mean 1 over what occurs (Zhang et al. 2016, eq. 4)."""
    weights = 1 / ((1 - EVEN_SHARE) * frequency + EVEN_SHARE / len(frequency))
    return weights / (frequency * weights).sum()


def colour_loss(
    logits: torch.Tensor, nearest: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross entropy with the spread truth, each place weighted by its nearest bin (Zhang et al. 2016, eq. 2 and 3).

    Args:
        logits: float32 (N, Q).
        nearest: int64 (N, 5), nearest bin first.
        shares: float32 (N, 5).
        weights: float32 (Q,).

    Returns:
        Scalar.
    """
    told = logits.log_softmax(1).gather(1, nearest)
    return -(weights[nearest[:, 0]] * (shares * told).sum(1)).mean()
