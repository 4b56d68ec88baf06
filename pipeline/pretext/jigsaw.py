"""Jigsaw: tell which of 100 permutations the nine tiles of a view are in (Noroozi & Favaro 2016).

Tiles are cut at random within the cells of a 3 x 3 grid, so that there is a gap between them, and each is brought to
zero mean and unit variance by itself: lines that go on across an edge, and colours, would tell the neighbours.

Published: AlexNet, tiles of 64 in cells of 75 pixels, SGD 0.01 at batch 256, 70 epochs, 30 % of the images gray
(preset `pretext-jigsaw`; the views here are gray with probability 0.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain, permutations

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import Encoder
from pipeline.params import STRIDE, PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.heads import mlp
from pipeline.pretext.method import BackboneMethod, Losses, pool_map

GRID = 3
TILES = GRID * GRID
PERMUTATIONS = 100
TILE_SHARE = 64 / 75  # of the side of a cell
TILE_WIDTH = 64  # channels of a tile, as the tiles of an image are looked at together
MIN_STD = 1e-3


class Jigsaw(BackboneMethod):
    """The encoder with a classifier of permutations. The two whole views train the decoder only."""

    views_teach = False

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.project = mlp([encoder.backbone.widths[-1], params.projection.hidden, TILE_WIDTH])
        self.orders = choose_permutations(PERMUTATIONS)  # (P, 9)
        self.classify = mlp([TILES * TILE_WIDTH, params.projection.hidden, PERMUTATIONS])

    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """Scalars loss, embedding_std, and top1: share of images whose permutation was told."""
        B = len(batch.views[0])
        tiles = cut_tiles(batch.views[0], batch.draw("tiles", 2 * TILES).view(B, TILES, 2))  # (B, 9, 3, t, t)
        labels = (batch.draw("permutation", 1)[:, 0] * len(self.orders)).long()
        order = torch.from_numpy(self.orders)[labels]  # (B, 9)
        shuffled = tiles[torch.arange(B)[:, None], order].flatten(0, 1)
        pooled = pool_map(self.encoder.backbone(shuffled.contiguous(memory_format=torch.channels_last)))
        pooled = batch.dealing.gather(pooled)
        logits = self.classify(self.project(pooled).view(-1, TILES * TILE_WIDTH)).float()
        labels = batch.dealing.gather(labels.to(logits.device))
        return {
            "loss": F.cross_entropy(logits, labels),
            "embedding_std": embedding_std(pooled),
            "top1": (logits.argmax(1) == labels).float().mean(),
        }


def cut_tiles(views: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Cut a tile out of each cell of a 3 x 3 grid.

    Args:
        views: float32 (B, 3, s, s).
        places: float32 (B, 9, 2) in [0, 1); where in its cell each tile lies, x and y.

    Returns:
        float32 (B, 9, 3, t, t), each of zero mean and unit variance per channel; t is a multiple of the backbones'
        stride near the tile's own side.
    """
    side = views.shape[-1]
    cell = side // GRID
    tile = max(1, round(cell * TILE_SHARE))
    shown = STRIDE * max(1, round(tile / STRIDE))
    starts = (places * (cell - tile + 1)).long()  # (B, 9, 2)
    cut = []
    for view, offsets in zip(views, starts.tolist(), strict=True):
        for number, (x, y) in enumerate(offsets):
            top, left = number // GRID * cell + y, number % GRID * cell + x
            cut.append(view[:, top : top + tile, left : left + tile])
    tiles = F.interpolate(torch.stack(cut), (shown, shown), mode="bilinear", align_corners=False)
    tiles = tiles - tiles.mean((2, 3), keepdim=True)
    tiles = tiles / tiles.std((2, 3), keepdim=True).clamp(min=MIN_STD)
    return tiles.view(len(views), TILES, 3, shown, shown)


@cache
def choose_permutations(count: int) -> np.ndarray:
    """Permutations of nine tiles that are far from each other (after Noroozi & Favaro 2016, algorithm 1).

    Each next one is farthest from those chosen. There that is the largest mean Hamming distance; here the largest
    least one, then the largest mean, then the first in lexical order, so that no two are nearly alike. The identity
    comes first (there one at random), so that nothing is random.

    Args:
        count: How many.

    Returns:
        int64 (count, 9).
    """
    every = np.fromiter(chain.from_iterable(permutations(range(TILES))), np.int8).reshape(-1, TILES).T.copy()
    chosen = [0]
    least = np.full(every.shape[1], TILES, np.int32)
    total = np.zeros(every.shape[1], np.int32)
    while len(chosen) < count:
        distance = sum((tiles != tiles[chosen[-1]] for tiles in every), np.zeros(every.shape[1], np.int32))
        least, total = np.minimum(least, distance), total + distance
        chosen.append(int((least * (TILES * count + 1) + total).argmax()))
    return every[:, chosen].T.astype(np.int64)
