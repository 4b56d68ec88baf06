"""A pixel sample for k-means in which every pyramid label has an equal share."""

from __future__ import annotations

import math

import numpy as np
import torch

from pipeline.runtime.distributed import Ranks
from pipeline.runtime.randomness import generator


class StratifiedSample:
    """Collects embeddings at random pixels, the same number from each stratum; a smaller stratum gives all it has.

    Every pixel of the train set draws a number, and of each stratum the pixels with the smallest numbers are kept. So
    the sample does not depend on the order of the images.

    Args:
        total: Pixels asked for.
        strata: Number of strata, such as the labels K_l of the finest level.
        seed: Seed of the choice of pixels.
        purpose: What the sample is for.
        epoch: Index of the epoch.
    """

    def __init__(self, total: int, strata: int, seed: int, purpose: str, epoch: int) -> None:
        self.quota = math.ceil(total / strata)
        self.draw = (seed, purpose, epoch)
        # columns of what is kept: stratum, number drawn, image, place
        self.keys = np.empty((0, 4))
        self.rows = np.empty((0, 0), np.float32)

    def add(self, indices: list[int], embedding: torch.Tensor, strata: torch.Tensor) -> None:
        """Take pixels of a batch.

        Args:
            indices: The images' indices, which choose the pixels.
            embedding: float32 (B, D, h, w).
            strata: int64 (B, h, w); pixels with -1 belong to none and are passed over.
        """
        B, D, h, w = embedding.shape
        drawn = np.stack([generator(*self.draw, index).random(h * w) for index in indices])  # (B, h * w)
        places = np.broadcast_to(np.arange(h * w), (B, h * w))
        images = np.broadcast_to(np.asarray(indices)[:, None], (B, h * w))
        here = np.stack([strata.cpu().numpy().reshape(B, -1), drawn, images, places], axis=-1).reshape(-1, 4)
        candidates = np.flatnonzero(here[:, 0] >= 0)
        candidates = candidates[self._smallest(here[candidates])]
        chosen = torch.from_numpy(candidates).to(embedding.device)
        picked = embedding.detach().flatten(2)[chosen // (h * w), :, chosen % (h * w)]  # (n, D)
        keys = np.concatenate([self.keys, here[candidates]])
        rows = np.concatenate([self.rows.reshape(-1, D), picked.float().cpu().numpy()])
        kept = self._smallest(keys)
        self.keys, self.rows = keys[kept], rows[kept]

    def merge(self, ranks: Ranks) -> None:
        """Bring what several processes took to the first of them; in the others nothing is left."""
        if ranks.is_alone:
            return
        taken = [(keys, rows) for keys, rows in ranks.gather((self.keys, self.rows)) if len(keys)]
        self.keys, self.rows = np.empty((0, 4)), np.empty((0, 0), np.float32)
        if taken:
            keys, rows = (np.concatenate(parts) for parts in zip(*taken, strict=True))
            kept = self._smallest(keys)
            self.keys, self.rows = keys[kept], rows[kept]

    def points(self) -> np.ndarray:
        """All rows, float32 (N, D), in the order of the images' indices and their pixels."""
        return self.rows[self._order()]

    def strata(self) -> np.ndarray:
        """The stratum of each of the `points`, int64 (N,)."""
        return self.keys[self._order(), 0].astype(np.int64)

    def _order(self) -> np.ndarray:
        return np.lexsort((self.keys[:, 3], self.keys[:, 2]))

    def _smallest(self, keys: np.ndarray) -> np.ndarray:
        """Positions of the `quota` smallest numbers of each stratum."""
        order = np.lexsort((keys[:, 3], keys[:, 2], keys[:, 1], keys[:, 0]))
        ranked = keys[order, 0]
        rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
        return order[rank < self.quota]
