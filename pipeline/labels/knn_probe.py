"""k nearest neighbours by cosine: the class of a cell is what the labelled pixels most like it vote for."""

from __future__ import annotations

import faiss
import numpy as np
import torch
import torch.nn.functional as F

from pipeline.clustering.gpu import place_index
from pipeline.labels.pixels import LabelledPixels
from pipeline.runtime.randomness import generator

MOST_ON_GPU = 1024  # neighbours that every GPU index of faiss can find


class KnnProbe:
    """A vote of the nearest labelled pixels, each weighted with exp((cosine - 1) / temperature) (Wu et al. 2018).

    Args:
        pixels: The sample; at most `count` of it are kept, drawn by `seed`.
        classes: Number of classes C.
        count: Pixels to search.
        neighbours: How many vote; fewer where there are fewer pixels.
        temperature: Of the weights.
        seed: Of the draw.
    """

    def __init__(
        self, pixels: LabelledPixels, classes: int, *, count: int, neighbours: int, temperature: float, seed: int
    ) -> None:
        chosen = np.sort(generator(seed, "labels/knn").permutation(len(pixels.labels))[:count])
        rows = F.normalize(pixels.features[torch.from_numpy(chosen)], dim=1)
        self._labels = pixels.labels.numpy()[chosen]
        self._classes, self._temperature = classes, temperature
        self._neighbours = min(neighbours, len(chosen))
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(np.ascontiguousarray(rows.numpy()))  # first, so that a GPU without room for the rows is left
        self._index = place_index(index) if self._neighbours <= MOST_ON_GPU else index

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32 (B, D, h, w) to shares of the vote, float32 (B, C, h, w), on the CPU."""
        B, D, h, w = features.shape
        cells = F.normalize(features, dim=1).permute(0, 2, 3, 1).reshape(-1, D)
        cosines, found = self._index.search(np.ascontiguousarray(cells.cpu().numpy()), self._neighbours)
        weights = np.exp((cosines - cosines[:, :1]) / self._temperature)  # the nearest has 1: shares stay the same
        votes = np.zeros((len(cells), self._classes), dtype=np.float32)
        np.add.at(votes, (np.arange(len(cells))[:, None], self._labels[found]), weights)
        shares = votes / votes.sum(axis=1, keepdims=True)
        return torch.from_numpy(shares).reshape(B, h, w, self._classes).permute(0, 3, 1, 2)
