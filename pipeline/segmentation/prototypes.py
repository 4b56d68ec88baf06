"""The prototypes of an epoch: one k-means over the train set for each view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.clustering.kmeans import assign
from pipeline.params import TrainParams
from pipeline.runtime.randomness import generator
from pipeline.segmentation.assignment import choose_labels
from pipeline.segmentation.cell_prior import CellPrior
from pipeline.segmentation.labelled_sample import LabelledSample
from pipeline.segmentation.losses import cluster_weights, pixel_loss, prototype_logits
from pipeline.segmentation.merging import confusion_groups, count_confusion, ward_groups
from pipeline.segmentation.pixel_clustering import check_finite, fit_prototypes
from pipeline.training.dealing import Dealing


class EpochPrototypes:
    """Prototypes that are fitted at the start of an epoch and frozen for the rest of it.

    Args:
        params: Group `train`.
        images: Number of train images.
        channels: D.
        device: Where they are used.
        label_counts: Pyramid labels K_l of each level, if pixels are given the labels of their cells.
        dealing: The processes that share the batches; None for one.

    Attributes:
        centroids: float32 (V, K', D), one set per view; K' is K unless fine clusters are merged.
        groups: int64 (V, K'), the cluster in 0..K-1 of each prototype.
        sizes: int64 (V, K), pixels of each cluster among those fitted.
        priors: One per view, made of the pixels fitted; none without the use `prior` of the pyramid labels.
    """

    def __init__(
        self,
        params: TrainParams,
        images: int,
        channels: int,
        device: torch.device,
        label_counts: Sequence[int] = (),
        dealing: Dealing | None = None,
    ) -> None:
        self.dealing = dealing or Dealing()
        self.params, self.images, self.device, self.label_counts = params, images, device, label_counts
        self.merged = params.clustering.fine_clusters > 0
        self.count = params.clustering.fine_clusters or params.k
        self.views = 1 if params.one_view else 2
        self.centroids = torch.zeros(self.views, self.count, channels, device=device)
        self.groups = torch.arange(self.count, device=device).remainder(params.k).repeat(self.views, 1)
        self.sizes = torch.zeros(self.views, params.k, dtype=torch.int64)
        self.fitted = False
        prior = "prior" in params.pgg.use
        self.priors = [CellPrior(label_counts, self.count) for _ in range(self.views)] if prior else []

    def fit(
        self, epoch: int, embedded: Iterable[tuple[list[int], Sequence[torch.Tensor], Sequence[torch.Tensor]]]
    ) -> np.ndarray:
        """Cluster a sample of pixels of each view.

        Args:
            epoch: Index of the epoch.
            embedded: The train images' indices, batch by batch; of each view the embedding (B, D, h, w); and for each
                level the pyramid labels of the pixels' cells, int64 (B, h, w), if they are used.

        Returns:
            The pixels of the first view that were fitted, float32 (N, D); of several processes only in the first,
            which makes the prototypes of all.

        Raises:
            TrainingError: Some embeddings are not finite.
        """
        samples = [self._sample(f"view {view + 1}", epoch) for view in range(self.views)]
        compared = self.merged and self.params.clustering.merge == "view_confusion"
        spots = [self._sample("spots", epoch) for _ in range(self.views)] if compared else []
        for indices, embeddings, labels in embedded:
            if not self.dealing.counts_here:
                continue
            for collected in (samples, spots) if compared else (samples,):
                for sample, embedding in zip(collected, embeddings, strict=True):
                    sample.add(indices, embedding, labels)
        for sample in (*samples, *spots):
            sample.merge(self.dealing.ranks)
        found = self._fit_samples(epoch, samples, spots) if self.dealing.ranks.is_first else np.empty((0, 0))
        if not self.dealing.ranks.is_alone:
            self.load_state_dict(self.dealing.ranks.broadcast(_to_cpu(self.state_dict())))
        return found

    def _fit_samples(
        self, epoch: int, samples: Sequence[LabelledSample], spots: Sequence[LabelledSample]
    ) -> np.ndarray:
        points, pairs = [sample.points() for sample in samples], [sample.points() for sample in spots]
        check_finite(np.stack(points), f"epoch {epoch + 1}")
        for view, rows in enumerate(points):
            self._fit_view(epoch, view, rows, pairs)
            if self.priors:
                self._fit_prior(view, rows, samples[view].labels())
        self.fitted = True
        return points[0]

    def assign(self, embedding: torch.Tensor, view: int, of_cells: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Cluster of every pixel: (B, D, h, w) to int64 (B, h, w) in 0..K-1.

        A balanced assignment balances the fine prototypes where these are merged. With a prior, the label of a pixel is
        argmax_k score_k / temperature + strength * log P(k | pyramid label of the pixel's cell).

        Args:
            embedding: float32 (B, D, h, w).
            view: 0 or 1.
            of_cells: For each level int64 (B, h, w), the pyramid labels of the pixels' cells.
        """
        scores = prototype_logits(embedding, self.centroids[view])
        if self.priors:
            # scaled by the temperature, so that a balanced assignment sees the scores in their usual range
            strength = self.params.temperature * self.params.pgg.prior_strength
            scores = scores + strength * self.priors[view].log_prior([labels.to(scores.device) for labels in of_cells])
        labels = choose_labels(scores, self.params.assignment, self.dealing)
        return self.groups[view][labels] if self.merged else labels

    def loss(self, embedding: torch.Tensor, view: int, labels: torch.Tensor) -> torch.Tensor:
        """Pixel loss of embeddings (B, D, h, w) against labels (B, h, w) and the prototypes of a view."""
        return pixel_loss(
            embedding,
            self.centroids[view],
            labels,
            temperature=self.params.temperature,
            weights=cluster_weights(self.sizes[view].to(self.device), self.params.cluster_weights),
            groups=self.groups[view] if self.merged else None,
            dealing=self.dealing,
        )

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the epoch, and the next one, depend on."""
        return {
            "centroids": self.centroids,
            "groups": self.groups,
            "sizes": self.sizes,
            "fitted": self.fitted,
            "priors": [prior.counts for prior in self.priors],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.centroids, self.groups = state["centroids"].to(self.device), state["groups"].to(self.device)
        self.sizes, self.fitted = state["sizes"], state["fitted"]
        for prior, counts in zip(self.priors, state["priors"], strict=True):
            prior.counts = counts

    def _sample(self, purpose: str, epoch: int) -> LabelledSample:
        return LabelledSample(self.params, self.images, self.label_counts, purpose, epoch)

    def _fit_prior(self, view: int, points: np.ndarray, labels: Sequence[np.ndarray]) -> None:
        # not from the assignment of the epoch before: its clusters are others, under other names
        nearest = assign(points, self.centroids[view].cpu().numpy(), spherical=False).labels.astype(np.int64)
        self.priors[view].clear()
        self.priors[view].add([torch.from_numpy(of_level) for of_level in labels], torch.from_numpy(nearest))

    def _fit_view(self, epoch: int, view: int, points: np.ndarray, pairs: list[np.ndarray]) -> None:
        clustering, seed = self.params.clustering, self.params.seed
        old = self.centroids[view].cpu().numpy().copy()
        warm = self.fitted and (clustering.warm_start or clustering.prototype_momentum > 0)
        fit = fit_prototypes(
            points,
            self.count,
            iterations=clustering.iterations,
            restarts=1 if warm else clustering.restarts,
            seed=int(generator(seed, "prototypes", epoch, view).integers(2**31)),
            start=old if warm else None,
        )
        centroids = fit.centroids
        if warm and clustering.prototype_momentum:
            # k-means started from the old rows, so that row by row they mean the same
            centroids = clustering.prototype_momentum * old + (1 - clustering.prototype_momentum) * centroids
        self.centroids[view] = torch.from_numpy(centroids)
        sizes = fit.sizes
        if self.merged:
            groups = self._merge(epoch, view, centroids, fit.sizes, pairs)
            self.groups[view] = torch.from_numpy(groups)
            sizes = np.bincount(groups, weights=fit.sizes, minlength=self.params.k).astype(np.int64)
        self.sizes[view] = torch.from_numpy(sizes)

    def _merge(
        self, epoch: int, view: int, centroids: np.ndarray, sizes: np.ndarray, pairs: list[np.ndarray]
    ) -> np.ndarray:
        if not pairs:
            return ward_groups(centroids, sizes, self.params.k)
        confusion = count_confusion(centroids, *pairs)
        seed = int(generator(self.params.seed, "merging", epoch, view).integers(2**31))
        return confusion_groups(confusion, self.params.k, seed)


def _to_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.cpu() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
