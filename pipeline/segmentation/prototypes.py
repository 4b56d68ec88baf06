"""The prototypes of an epoch: one k-means over the train set for each view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.params import TrainParams
from pipeline.runtime.randomness import generator
from pipeline.segmentation.pixel_clustering import PixelSample, fit_prototypes

VIEWS = 2


class EpochPrototypes:
    """Prototypes that are fitted at the start of an epoch and frozen for the rest of it.

    Args:
        params: Group `train`.
        images: Number of train images.
        channels: D.
        device: Where they are used.

    Attributes:
        centroids: float32 (2, K, D), one set per view.
        sizes: int64 (2, K), pixels of each cluster among those fitted.
    """

    def __init__(self, params: TrainParams, images: int, channels: int, device: torch.device) -> None:
        self.params, self.images, self.device = params, images, device
        self.centroids = torch.zeros(VIEWS, params.k, channels, device=device)
        self.sizes = torch.zeros(VIEWS, params.k, dtype=torch.int64)

    def fit(self, epoch: int, embedded: Iterable[tuple[list[int], Sequence[torch.Tensor]]]) -> np.ndarray:
        """Cluster a sample of pixels of each view.

        Args:
            epoch: Index of the epoch.
            embedded: The train images' indices, batch by batch, and of each view the embedding (B, D, h, w).

        Returns:
            The pixels of the first view that were fitted, float32 (N, D).
        """
        clustering, seed = self.params.clustering, self.params.seed
        samples = [
            PixelSample(self.images, self.params.k, clustering, seed, f"view {v + 1}", epoch) for v in range(VIEWS)
        ]
        for indices, embeddings in embedded:
            for sample, embedding in zip(samples, embeddings, strict=True):
                sample.add(indices, embedding)
        points = [sample.points() for sample in samples]
        for view, rows in enumerate(points):
            fit = fit_prototypes(
                rows,
                self.params.k,
                iterations=clustering.iterations,
                restarts=clustering.restarts,
                seed=int(generator(seed, "prototypes", epoch, view).integers(2**31)),
            )
            self.centroids[view] = torch.from_numpy(fit.centroids)
            self.sizes[view] = torch.from_numpy(fit.sizes)
        return points[0]

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the epoch depends on."""
        return {"centroids": self.centroids, "sizes": self.sizes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.centroids = state["centroids"].to(self.device)
        self.sizes = state["sizes"]
