"""Prototypes: k-means over a sample of pixel embeddings, the same number of pixels from every image."""

from __future__ import annotations

import math

import numpy as np
import torch

from pipeline.clustering.kmeans import KMeans, fit_kmeans
from pipeline.errors import TrainingError
from pipeline.params import PixelClusteringParams
from pipeline.runtime.distributed import Ranks
from pipeline.runtime.randomness import generator


class PixelSample:
    """Collects embeddings at random pixels, image by image.

    Args:
        images: How many images will come.
        k: Clusters K; fine ones that are merged into them share the same pixels.
        params: Group `train.clustering`.
        seed: Seed of the choice of pixels.
        purpose: What the sample is for.
        epoch: Index of the epoch.
    """

    def __init__(self, images: int, k: int, params: PixelClusteringParams, seed: int, purpose: str, epoch: int) -> None:
        self.per_image = max(1, math.ceil(k * params.pixels_per_cluster / images))
        self.draw = (seed, purpose, epoch)
        self.rows: list[tuple[int, np.ndarray]] = []

    def add(self, indices: list[int], embedding: torch.Tensor) -> None:
        """Take pixels of a batch.

        Args:
            indices: The images' indices, which choose the pixels.
            embedding: float32 (B, D, h, w).
        """
        B, D, h, w = embedding.shape
        count = min(self.per_image, h * w)
        places = np.stack(
            [generator(*self.draw, index).choice(h * w, count, replace=False, shuffle=False) for index in indices]
        )
        index = torch.from_numpy(places).to(embedding.device)[:, None].expand(B, D, count)
        picked = embedding.detach().flatten(2).gather(2, index).transpose(1, 2)  # (B, count, D)
        self.rows.extend(zip(indices, picked.float().cpu().numpy(), strict=True))

    def merge(self, ranks: Ranks) -> None:
        """Bring what several processes took to the first of them; in the others nothing is left."""
        self.rows = [row for taken in ranks.gather(self.rows) for row in taken]

    def points(self) -> np.ndarray:
        """All rows, float32 (N, D), in the order of the images' indices."""
        return np.concatenate([rows for _, rows in sorted(self.rows, key=lambda item: item[0])])


def fit_prototypes(
    points: np.ndarray, k: int, *, iterations: int, restarts: int, seed: int, start: np.ndarray | None = None
) -> KMeans:
    """Euclidean k-means on unit embeddings; centroids stay the plain means, not scaled to unit norm.

    Args:
        points: float32 (N, D).
        k: Prototypes K.
        iterations: Lloyd steps of each run.
        restarts: Runs; the best inertia is kept.
        seed: Seed of the starts.
        start: float32 (K, D), centroids to begin with instead of drawn ones.
    """
    return fit_kmeans(points, k, spherical=False, iterations=iterations, restarts=restarts, seed=seed, start=start)


def check_finite(points: np.ndarray, when: str) -> None:
    """Stop a run whose network has broken down.

    Raises:
        TrainingError: Some embeddings are not finite.
    """
    if not np.isfinite(points).all():
        raise TrainingError(
            f"{when}: some embeddings are not finite numbers; lower train.learning_rate and train.head_learning_rate, "
            "or set train.precision: fp32"
        )
