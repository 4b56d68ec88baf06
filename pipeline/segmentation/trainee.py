"""The segmenter in training: two views, pixel clustering, pyramid guidance (METHOD of FS4, after PiCIE)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pipeline.clustering.effective_rank import effective_rank
from pipeline.data.loading import shape_batches
from pipeline.data.views import normalise
from pipeline.params import PggParams, TrainParams
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.randomness import generator
from pipeline.segmentation.freezing import freeze, set_training
from pipeline.segmentation.guidance import PyramidGuidance, PyramidLevel
from pipeline.segmentation.losses import assign_pixels
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.monitors import ClusterMonitors
from pipeline.segmentation.prototypes import EpochPrototypes
from pipeline.segmentation.teacher import Teacher
from pipeline.segmentation.two_views import Views, embed_views, make_views, view_distance
from pipeline.training.dealing import Dealing
from pipeline.training.loop import Batches, Loader
from pipeline.training.synced_norm import synchronise

PROBE_IMAGES = 64  # images on which consecutive epochs are compared


class SegmenterTrainee:
    """What `run_epochs` trains in stage `train`.

    Each epoch starts with k-means over the train set, once per view. Its centroids are the frozen prototypes of the
    epoch, and every step assigns the pixels of its batch to them. Rounds are parts of one run: at the start of each
    but the first, pyramid labels are made of the trained network's embedding, and heads and optimiser start anew.

    Attributes:
        segmenter: What is trained.
        result: What the training ends with: the teacher if there is one (as in Tarvainen & Valpola 2017), because the
            clusters live in its embedding; else the segmenter.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        params: TrainParams,
        *,
        pyramid: Sequence[PyramidLevel],
        grouping: PggParams,
        sizes: Sequence[tuple[int, int]],
        load: Loader,
        device: torch.device,
        dealing: Dealing | None = None,
    ) -> None:
        self.dealing = dealing or Dealing()
        self.segmenter = segmenter.to(device).to(memory_format=torch.channels_last)
        self.params, self.sizes, self.load, self.device = params, sizes, load, device
        self.grouping = grouping
        restarts = params.rounds > 1 and params.round_start == "backbone"
        self.start = copy.deepcopy(segmenter.state_dict()) if restarts else {}
        channels = segmenter.encoder.architecture["channels"]
        self.guidance = PyramidGuidance(pyramid, channels, params.pgg, params.seed + 1).to(device)
        self.prototypes = EpochPrototypes(
            params, len(sizes), channels, device, self.guidance.pixel_label_counts, self.dealing
        )
        self.monitors = ClusterMonitors(params, device)
        freeze(self.segmenter, params.trained)
        momentum = params.assignment.teacher_momentum
        self.teacher = Teacher(self.segmenter, momentum) if momentum else None
        self.result = self.teacher.segmenter if self.teacher else self.segmenter
        for network in {self.segmenter, self.result}:
            synchronise(network, self.dealing)
        body = [weight for weight in segmenter.encoder.parameters() if weight.requires_grad]
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            [
                {"params": body, "lr": params.learning_rate},
                {
                    "params": [*segmenter.embedding.parameters(), *self.guidance.parameters()],
                    "lr": params.head_learning_rate,
                },
            ],
            fused=True,
        )
        if self.teacher:
            self.optimizer.register_step_post_hook(self.teacher.follow)

    def epoch_batches(self, epoch: int) -> Batches:
        """Shuffled batches of equal frame shape."""
        return shape_batches(self.sizes, self.params.batch_size, generator(self.params.seed, "train order", epoch))

    def begin_epoch(self, epoch: int) -> None:
        """Start a round or make new pyramid labels if it is time, and fit the prototypes of each view."""
        if self._is_regrouped(epoch):
            self._regroup(epoch)
            if epoch % self.params.epochs == 0:
                self._start_round(epoch // self.params.epochs)
        self._set_training()
        with torch.no_grad():
            points = self.prototypes.fit(epoch, self._embedded(epoch))
        ranks = self.dealing.ranks
        rank = ranks.broadcast(effective_rank(points) if ranks.is_first else 0.0)
        self.monitors.begin_epoch(epoch, rank, self._probe_labels())

    def losses(
        self, epoch: int, indices: list[int], images: torch.Tensor, progress: float = 0.0
    ) -> dict[str, torch.Tensor]:
        """Pixel loss within and across views, and the pyramid loss on view 2 before its geometric transform."""
        guided = self.params.pgg.has_loss and bool(self.guidance.levels)
        second = not self.params.one_view or guided
        views = make_views(images, indices, epoch, self.params, self.device, second=second)
        embedded = embed_views(self.segmenter, views, self.params.precision)
        losses: dict[str, torch.Tensor] = {}
        total = torch.zeros((), device=self.device)
        if epoch % self.params.epochs >= self.params.warmup_epochs:
            pixels = embedded.pixels()[: self.prototypes.views]
            total = losses["pixel_loss"] = self._pixel_loss(pixels, self._labels(indices, views, pixels))
            if self.params.mse_weight:
                losses["mse_loss"] = self.dealing.mean(view_distance(*pixels))
                total = total + self.params.mse_weight * losses["mse_loss"]
        if guided:
            assert embedded.whole is not None
            guidance, told = self.guidance.loss(embedded.whole, indices, self.dealing)
            losses |= {"pgg_loss": guidance, **told}
            total = total + self.params.pgg.weight * guidance
        return {"loss": total, **losses}

    def learning_rate_factor(self, progress: float) -> float:
        """Constant learning rates."""
        return 1.0

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Check that the clusters are alive."""
        rounds = {"round": 1.0 + epoch // self.params.epochs} if self.params.rounds > 1 else {}
        changed = self.guidance.changed if self._is_regrouped(epoch) else {}
        row = {**rounds, **means, **changed, **self.monitors.values}
        gamma = getattr(self.segmenter.embedding, "gamma", None)
        if gamma is not None:
            row["gamma"] = float(gamma.detach())
        return row | self.monitors.check_clusters(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Networks, prototypes of the running epoch, and what the monitors remember."""
        return {
            "segmenter": self.segmenter.state_dict(),
            "teacher": self.teacher.segmenter.state_dict() if self.teacher else None,
            "guidance": self.guidance.state_dict(),
            "prototypes": self.prototypes.state_dict(),
            "monitors": self.monitors.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.segmenter.load_state_dict(state["segmenter"])
        if self.teacher:
            self.teacher.segmenter.load_state_dict(state["teacher"])
        self.guidance.load_state_dict(state["guidance"])
        self.prototypes.load_state_dict(state["prototypes"])
        self.monitors.load_state_dict(state["monitors"])
        self._set_training()

    def _set_training(self) -> None:
        for network in {self.segmenter, self.result}:
            set_training(network, self.params.trained)

    def _is_regrouped(self, epoch: int) -> bool:
        """Whether new pyramid labels are made at the start of an epoch."""
        every, of_round = self.params.pgg.recluster_every, epoch % self.params.epochs
        return epoch > 0 and (of_round == 0 or (every > 0 and of_round % every == 0))

    def _regroup(self, epoch: int) -> None:
        def embed(images: torch.Tensor) -> torch.Tensor:
            with autocast(self.device, self.params.precision):
                return self.result.embed(normalise(copy_to(self.device, images)))

        self.result.eval()
        ranks = self.dealing.ranks
        with torch.no_grad():
            batches = shape_batches(self.sizes, self.params.batch_size, None)
            draw = (self.params.seed, epoch)
            own = self.load(ranks.own(batches))
            self.guidance.regroup(own, embed, self.grouping, draw, ranks=ranks, total=len(batches))

    def _start_round(self, index: int) -> None:
        self.guidance.renew_heads(int(generator(self.params.seed, "heads", index).integers(2**31)))
        if self.start:
            for network in {self.segmenter, self.result}:
                network.load_state_dict(self.start)
            self.prototypes.fitted = False  # a warm start would mix two embeddings
        self.optimizer.state.clear()

    def _embedded(self, epoch: int) -> Iterator[tuple[list[int], Sequence[torch.Tensor], Sequence[torch.Tensor]]]:
        """The train images in order, with the embeddings of their views and the pyramid labels of their pixels."""
        batches = shape_batches(self.sizes, self.params.batch_size, None)
        for indices, images in self.dealing.deal(batches, self.load):
            views = make_views(images, indices, epoch, self.params, self.device, second=not self.params.one_view)
            pixels = embed_views(self.result, views, self.params.precision).pixels()
            yield indices, pixels, self._of_cells(indices, views, pixels)

    def _of_cells(self, indices: list[int], views: Views, pixels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Pyramid labels of the pixels' cells, if they are used; the views share their crop, and so these."""
        return self.guidance.pixel_labels(indices, views.crop, (pixels[0].shape[2], pixels[0].shape[3]))

    @torch.no_grad()
    def _labels(self, indices: list[int], views: Views, pixels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The cluster of every pixel in each view, by the teacher's embeddings if there is one; (B, h, w)."""
        if self.teacher:
            second = None if self.params.one_view else views.second
            pixels = embed_views(self.result, views._replace(second=second), self.params.precision).pixels()
        of_cells = self._of_cells(indices, views, pixels)
        labels = [self.prototypes.assign(embedding.detach(), view, of_cells) for view, embedding in enumerate(pixels)]
        for assigned in labels:
            self.monitors.count(assigned, self.dealing)
        return labels

    def _pixel_loss(self, pixels: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> torch.Tensor:
        loss = self.prototypes.loss
        if len(pixels) == 1:
            return loss(pixels[0], 0, labels[0])
        within = (loss(pixels[0], 0, labels[0]) + loss(pixels[1], 1, labels[1])) / 2
        across = (loss(pixels[0], 1, labels[1]) + loss(pixels[1], 0, labels[0])) / 2
        return (within + across) / 2

    def _probe_labels(self) -> torch.Tensor:
        """Labels of some frames as they are, under the first view's prototypes."""
        chosen = list(range(min(PROBE_IMAGES, len(self.sizes))))
        batches = shape_batches([self.sizes[i] for i in chosen], self.params.batch_size, None)
        self.result.eval()
        labels = []
        with torch.no_grad(), autocast(self.device, self.params.precision):
            for _, images in self.load(batches):
                embedding = self.result.embed(normalise(copy_to(self.device, images)))
                nearest = assign_pixels(embedding.float(), self.prototypes.centroids[0])
                labels.append(self.prototypes.groups[0][nearest].flatten().cpu())
        self._set_training()
        return torch.cat(labels)
