"""The segmenter in training: two views, pixel clustering, pyramid guidance (METHOD of FS4, after PiCIE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.clustering.agreement import normalised_mutual_information, relative_entropy
from pipeline.data.loading import shape_batches
from pipeline.data.views import (
    Geometric,
    apply_geometric,
    apply_photometric,
    draw_geometric,
    draw_photometric,
    normalise,
)
from pipeline.errors import TrainingError
from pipeline.features.pooling import pool_cells
from pipeline.params import TrainParams
from pipeline.runtime.device import autocast
from pipeline.runtime.randomness import generator
from pipeline.segmentation.losses import assign_pixels, cluster_weights, pixel_loss, pyramid_loss
from pipeline.segmentation.model import PyramidHead, Segmenter
from pipeline.segmentation.pixel_clustering import PixelSample, effective_rank, fit_prototypes
from pipeline.training.loop import Batches, Loader

PROBE_IMAGES = 64  # images on which consecutive epochs are compared


@dataclass(frozen=True)
class PyramidLevel:
    """Pseudo labels of the train images at one level.

    Attributes:
        cells: Cells a side.
        k: Number of pseudo labels K_l.
        labels: int64 (N, cells^2), by train image; -1 where a cell has no features.
        margins: float32 (N, cells^2).
        min_margin: Labels less certain than this are left out.
    """

    cells: int
    k: int
    labels: torch.Tensor
    margins: torch.Tensor
    min_margin: float


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
        self.pyramid = pyramid if params.pgg.weight else ()
        channels = segmenter.encoder.architecture["channels"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed + 1)
            heads = [PyramidHead(channels, level.k, params.pgg) for level in self.pyramid]
        self.heads = nn.ModuleList(heads).to(device)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            [
                {"params": list(segmenter.encoder.parameters()), "lr": params.learning_rate},
                {
                    "params": [*segmenter.embedding.parameters(), *self.heads.parameters()],
                    "lr": params.head_learning_rate,
                },
            ]
        )
        self.prototypes = torch.zeros(2, params.k, channels, device=device)  # one set per view
        self.cluster_sizes = torch.zeros(2, params.k, dtype=torch.int64)
        self.histogram = torch.zeros(params.k, dtype=torch.int64, device=device)
        self.probe = torch.zeros(0, dtype=torch.int64)
        self.monitors: dict[str, float] = {}

    def epoch_batches(self, epoch: int) -> Batches:
        """Shuffled batches of equal frame shape."""
        return shape_batches(self.sizes, self.params.batch_size, generator(self.params.seed, "train order", epoch))

    def begin_epoch(self, epoch: int) -> None:
        """Fit the prototypes of both views, and compare with the epoch before."""
        samples = [
            PixelSample(len(self.sizes), self.params.k, self.params.clustering, self.params.seed, f"view {v}", epoch)
            for v in (1, 2)
        ]
        self.segmenter.train()
        with torch.no_grad():
            for indices, images in self.load(shape_batches(self.sizes, self.params.batch_size, None)):
                first, second, crop = self._views(epoch, indices, images)
                for sample, embedding in zip(samples, self._embed_views(first, second, crop)[:2], strict=True):
                    sample.add(indices, embedding)
        clustering = self.params.clustering
        for view, sample in enumerate(samples):
            points = sample.points()
            fit = fit_prototypes(
                points,
                self.params.k,
                iterations=clustering.iterations,
                restarts=clustering.restarts,
                seed=int(generator(self.params.seed, "prototypes", epoch, view).integers(2**31)),
            )
            self.prototypes[view] = torch.from_numpy(fit.centroids)
            self.cluster_sizes[view] = torch.from_numpy(fit.sizes)
        self.histogram.zero_()
        self.monitors = {"effective_rank": effective_rank(samples[0].points())}
        probe = self._probe_labels()
        if len(self.probe):
            self.monitors["nmi"] = normalised_mutual_information(self.probe.numpy(), probe.numpy())
        self.probe = probe

    def losses(self, epoch: int, indices: list[int], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pixel loss within and across views, and the pyramid loss on view 2 before its geometric transform."""
        first, second, crop = self._views(epoch, indices, images)
        one, two, whole = self._embed_views(first, second, crop)
        losses: dict[str, torch.Tensor] = {}
        total = torch.zeros((), device=self.device)
        if epoch >= self.params.warmup_epochs:
            total = losses["pixel_loss"] = self._pixel_loss(one, two)
        if self.pyramid:
            guidance, told = self._pyramid_loss(whole, indices)
            losses |= {"pgg_loss": guidance, **told}
            total = total + self.params.pgg.weight * guidance
        return {"loss": total, **losses}

    def learning_rate_factor(self, progress: float) -> float:
        """Constant learning rates."""
        return 1.0

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Check that the clusters are alive."""
        row = {**means, **self.monitors}
        gamma = getattr(self.segmenter.embedding, "gamma", None)
        if gamma is not None:
            row["gamma"] = float(gamma.detach())
        counts = self.histogram.cpu().numpy()
        if not counts.sum():
            return row
        row["clusters_used"] = float((counts > 0).sum())
        row["largest_share"] = float(counts.max() / counts.sum())
        row["entropy"] = relative_entropy(counts)
        used, largest = row["clusters_used"] / self.params.k, row["largest_share"]
        advice = "lower train.learning_rate, raise train.pgg.weight, or give fewer train.k"
        if used < self.params.min_used:
            raise TrainingError(
                f"epoch {epoch + 1}: the clusters collapsed, clusters_used {row['clusters_used']:.0f} of "
                f"{self.params.k} is below train.min_used {self.params.min_used}; {advice}"
            )
        if largest > self.params.max_share:
            raise TrainingError(
                f"epoch {epoch + 1}: the clusters collapsed, largest_share {largest:.3f} is above train.max_share "
                f"{self.params.max_share}; {advice}"
            )
        return row

    def state_dict(self) -> dict[str, Any]:
        """Networks, prototypes of the running epoch, and what the monitors remember."""
        return {
            "segmenter": self.segmenter.state_dict(),
            "heads": self.heads.state_dict(),
            "prototypes": self.prototypes,
            "cluster_sizes": self.cluster_sizes,
            "histogram": self.histogram,
            "probe": self.probe,
            "monitors": self.monitors,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.segmenter.load_state_dict(state["segmenter"])
        self.heads.load_state_dict(state["heads"])
        self.prototypes = state["prototypes"].to(self.device)
        self.cluster_sizes = state["cluster_sizes"]
        self.histogram = state["histogram"].to(self.device)
        self.probe = state["probe"]
        self.monitors = state["monitors"]
        self.segmenter.train()

    def _views(
        self, epoch: int, indices: list[int], images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Geometric]:
        """View 1 after both transforms, view 2 after its photometric one alone, and the crop that both share."""
        seed, views = self.params.seed, self.params.views
        frames = images.to(self.device, non_blocking=True).float() / 255.0
        crop = draw_geometric(seed, "train crop", epoch, indices, min_area=views.min_area, flip=views.flip)
        coloured = [
            apply_photometric(
                frames, draw_photometric(seed, f"train colours {v}", epoch, indices, jitter=views.jitter, hue=views.hue)
            )
            for v in (1, 2)
        ]
        first = apply_geometric(coloured[0], crop, (frames.shape[2], frames.shape[3]))
        return normalise(first), normalise(coloured[1]), crop

    def _embed_views(
        self, first: torch.Tensor, second: torch.Tensor, crop: Geometric
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings of view 1, of view 2 cut alike, and of the whole view 2; float32 (B, D, h, w)."""
        with autocast(self.device, self.params.precision):
            one, whole = self.segmenter.embed(torch.cat([first, second])).chunk(2)
        two = F.normalize(apply_geometric(whole, crop, (whole.shape[2], whole.shape[3])), dim=1)
        return one, two, whole

    def _pixel_loss(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        labels = [assign_pixels(e.detach(), mu) for e, mu in zip((one, two), self.prototypes, strict=True)]
        for assigned in labels:
            self.histogram += torch.bincount(assigned.flatten(), minlength=self.params.k)
        weights = [cluster_weights(sizes.to(self.device), self.params.cluster_weights) for sizes in self.cluster_sizes]

        def loss(embedding: torch.Tensor, view: int) -> torch.Tensor:
            return pixel_loss(
                embedding,
                self.prototypes[view],
                labels[view],
                temperature=self.params.temperature,
                weights=weights[view],
            )

        within = (loss(one, 0) + loss(two, 1)) / 2
        across = (loss(one, 1) + loss(two, 0)) / 2
        return (within + across) / 2

    def _pyramid_loss(self, whole: torch.Tensor, indices: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        losses, told = [], {}
        for level, head in zip(self.pyramid, self.heads, strict=True):
            cells = pool_cells(whole, level.cells).flatten(0, 1)
            labels = level.labels[indices].flatten().to(self.device)
            margins = level.margins[indices].flatten().to(self.device)
            loss, right = pyramid_loss(head(cells), labels, margins, level.min_margin)
            losses.append(loss)
            told[f"pgg_top1_level_{level.cells}"] = right
        return torch.stack(losses).mean(), told

    def _probe_labels(self) -> torch.Tensor:
        """Labels of some frames as they are, under the first view's prototypes."""
        chosen = list(range(min(PROBE_IMAGES, len(self.sizes))))
        batches = shape_batches([self.sizes[i] for i in chosen], self.params.batch_size, None)
        self.segmenter.eval()
        labels = []
        with torch.no_grad(), autocast(self.device, self.params.precision):
            for _, images in self.load(batches):
                embedding = self.segmenter.embed(normalise(images.to(self.device)))
                labels.append(assign_pixels(embedding.float(), self.prototypes[0]).flatten().cpu())
        self.segmenter.train()
        return torch.cat(labels)


def min_margin(margins: np.ndarray, drop_fraction: float) -> float:
    """The margin below which the least certain `drop_fraction` of cells lies; minus infinity when none is dropped."""
    return float(np.quantile(margins, drop_fraction)) if drop_fraction and margins.size else float("-inf")
