"""The pixels of a view that k-means is fitted on, with the pyramid labels of their cells where those are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.params import TrainParams
from pipeline.runtime.distributed import Ranks
from pipeline.segmentation.pixel_clustering import PixelSample
from pipeline.segmentation.strata import StratifiedSample


class LabelledSample:
    """Collects embeddings at random pixels: the same number from every image, or from every finest pyramid label.

    Args:
        params: Group `train`.
        images: How many images will come.
        label_counts: Number of pyramid labels K_l of each level, the finest last; none if the labels are not used.
        purpose: What the sample is for.
        epoch: Index of the epoch.
    """

    def __init__(self, params: TrainParams, images: int, label_counts: Sequence[int], purpose: str, epoch: int) -> None:
        self.levels = len(label_counts)
        self.sample: PixelSample | StratifiedSample
        if "strata" in params.pgg.use:
            total = params.k * params.clustering.pixels_per_cluster
            self.sample = StratifiedSample(total, label_counts[-1], params.seed, purpose, epoch)
        else:
            self.sample = PixelSample(images, params.k, params.clustering, params.seed, purpose, epoch)

    def add(self, indices: list[int], embedding: torch.Tensor, labels: Sequence[torch.Tensor]) -> None:
        """Take pixels of a batch.

        Args:
            indices: The images' indices.
            embedding: float32 (B, D, h, w).
            labels: For each level int64 (B, h, w), the pyramid labels of the pixels' cells.
        """
        if labels:
            # labels travel as further channels, so that both come from the same pixels; float32 holds them exactly
            channels = torch.stack(list(labels), dim=1).to(embedding)  # (B, L, h, w)
            embedding = torch.cat([embedding.detach(), channels], dim=1)
        if isinstance(self.sample, StratifiedSample):
            self.sample.add(indices, embedding, labels[-1])
        else:
            self.sample.add(indices, embedding)

    def merge(self, ranks: Ranks) -> None:
        """Bring what several processes took to the first of them; in the others nothing is left."""
        self.sample.merge(ranks)

    def points(self) -> np.ndarray:
        """The embeddings, float32 (n, D), in the order of the images' indices."""
        rows = self.sample.points()
        return np.ascontiguousarray(rows[:, : rows.shape[1] - self.levels])

    def labels(self) -> list[np.ndarray]:
        """For each level the labels of the `points`, int64 (n,)."""
        rows = self.sample.points()
        return list(rows[:, rows.shape[1] - self.levels :].T.astype(np.int64))
