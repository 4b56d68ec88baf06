"""The segmenter in training: two views, pixel clustering, pyramid guidance (METHOD of FS4, after PiCIE)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pipeline.data.loading import shape_batches
from pipeline.data.views import normalise
from pipeline.params import TrainParams
from pipeline.runtime.device import autocast
from pipeline.runtime.randomness import generator
from pipeline.segmentation.guidance import PyramidGuidance, PyramidLevel
from pipeline.segmentation.losses import assign_pixels, cluster_weights, pixel_loss
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.monitors import ClusterMonitors
from pipeline.segmentation.pixel_clustering import effective_rank
from pipeline.segmentation.prototypes import EpochPrototypes
from pipeline.segmentation.two_views import embed_views, make_views
from pipeline.training.loop import Batches, Loader

PROBE_IMAGES = 64  # images on which consecutive epochs are compared


class SegmenterTrainee:
    """What `run_epochs` trains in stage `train`.

    Each epoch starts with k-means over the train set, once per view. Its centroids are the frozen prototypes of the
    epoch, and every step assigns the pixels of its batch to them.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        params: TrainParams,
        *,
        pyramid: Sequence[PyramidLevel],
        sizes: Sequence[tuple[int, int]],
        load: Loader,
        device: torch.device,
    ) -> None:
        self.segmenter = segmenter.to(device).to(memory_format=torch.channels_last)
        self.params, self.sizes, self.load, self.device = params, sizes, load, device
        channels = segmenter.encoder.architecture["channels"]
        levels = pyramid if params.pgg.weight else ()
        self.guidance = PyramidGuidance(levels, channels, params.pgg, params.seed + 1).to(device)
        self.prototypes = EpochPrototypes(params, len(sizes), channels, device)
        self.monitors = ClusterMonitors(params, device)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            [
                {"params": list(segmenter.encoder.parameters()), "lr": params.learning_rate},
                {
                    "params": [*segmenter.embedding.parameters(), *self.guidance.parameters()],
                    "lr": params.head_learning_rate,
                },
            ]
        )

    def epoch_batches(self, epoch: int) -> Batches:
        """Shuffled batches of equal frame shape."""
        return shape_batches(self.sizes, self.params.batch_size, generator(self.params.seed, "train order", epoch))

    def begin_epoch(self, epoch: int) -> None:
        """Fit the prototypes of both views, and compare with the epoch before."""
        self.segmenter.train()
        with torch.no_grad():
            points = self.prototypes.fit(epoch, self._embedded(epoch))
        self.monitors.begin_epoch(effective_rank(points), self._probe_labels())

    def losses(self, epoch: int, indices: list[int], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pixel loss within and across views, and the pyramid loss on view 2 before its geometric transform."""
        views = make_views(images, indices, epoch, self.params, self.device)
        one, two, whole = embed_views(self.segmenter, views, self.params.precision)
        losses: dict[str, torch.Tensor] = {}
        total = torch.zeros((), device=self.device)
        if epoch >= self.params.warmup_epochs:
            total = losses["pixel_loss"] = self._pixel_loss(one, two)
        if self.guidance.levels:
            guidance, told = self.guidance.loss(whole, indices)
            losses |= {"pgg_loss": guidance, **told}
            total = total + self.params.pgg.weight * guidance
        return {"loss": total, **losses}

    def learning_rate_factor(self, progress: float) -> float:
        """Constant learning rates."""
        return 1.0

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Check that the clusters are alive."""
        row = {**means, **self.monitors.values}
        gamma = getattr(self.segmenter.embedding, "gamma", None)
        if gamma is not None:
            row["gamma"] = float(gamma.detach())
        return row | self.monitors.check_clusters(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Networks, prototypes of the running epoch, and what the monitors remember."""
        return {
            "segmenter": self.segmenter.state_dict(),
            "guidance": self.guidance.state_dict(),
            "prototypes": self.prototypes.state_dict(),
            "monitors": self.monitors.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.segmenter.load_state_dict(state["segmenter"])
        self.guidance.load_state_dict(state["guidance"])
        self.prototypes.load_state_dict(state["prototypes"])
        self.monitors.load_state_dict(state["monitors"])
        self.segmenter.train()

    def _embedded(self, epoch: int) -> Iterator[tuple[list[int], Sequence[torch.Tensor]]]:
        """The train images in order, with the embeddings of their views."""
        for indices, images in self.load(shape_batches(self.sizes, self.params.batch_size, None)):
            views = make_views(images, indices, epoch, self.params, self.device)
            one, two, _ = embed_views(self.segmenter, views, self.params.precision)
            yield indices, (one, two)

    def _pixel_loss(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        prototypes = self.prototypes.centroids
        labels = [assign_pixels(e.detach(), mu) for e, mu in zip((one, two), prototypes, strict=True)]
        for assigned in labels:
            self.monitors.count(assigned)
        weights = [
            cluster_weights(sizes.to(self.device), self.params.cluster_weights) for sizes in self.prototypes.sizes
        ]

        def loss(embedding: torch.Tensor, view: int) -> torch.Tensor:
            return pixel_loss(
                embedding,
                prototypes[view],
                labels[view],
                temperature=self.params.temperature,
                weights=weights[view],
            )

        within = (loss(one, 0) + loss(two, 1)) / 2
        across = (loss(one, 1) + loss(two, 0)) / 2
        return (within + across) / 2

    def _probe_labels(self) -> torch.Tensor:
        """Labels of some frames as they are, under the first view's prototypes."""
        chosen = list(range(min(PROBE_IMAGES, len(self.sizes))))
        batches = shape_batches([self.sizes[i] for i in chosen], self.params.batch_size, None)
        self.segmenter.eval()
        labels = []
        with torch.no_grad(), autocast(self.device, self.params.precision):
            for _, images in self.load(batches):
                embedding = self.segmenter.embed(normalise(images.to(self.device)))
                labels.append(assign_pixels(embedding.float(), self.prototypes.centroids[0]).flatten().cpu())
        self.segmenter.train()
        return torch.cat(labels)
