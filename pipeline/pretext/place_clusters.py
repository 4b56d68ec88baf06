"""Views agree on the balanced clusters of their places: SwAV (Caron et al. 2020) at every place of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.clustering.balancing import balanced_codes
from pipeline.params import DenseClustersParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import PROJECTION, projector
from pipeline.pretext.places import read_pair, read_shared


class PlaceClusters(nn.Module):
    """The projection of places, the clusters, and places of past steps that help to balance them.

    Args:
        channels: D of the map.
        params: Group `pretrain.clusters`.
    """

    queue: torch.Tensor
    queued: torch.Tensor

    def __init__(self, channels: int, params: DenseClustersParams) -> None:
        super().__init__()
        self.params = params
        self.project_place = projector(channels, 2 * channels)
        self.clusters = nn.Parameter(F.normalize(torch.randn(params.count, PROJECTION), dim=1))
        self.register_buffer("queue", torch.zeros(2, params.queue, PROJECTION))  # of view 1, and of view 2
        self.register_buffer("queued", torch.zeros((), dtype=torch.int64))

    def forward(
        self, maps: torch.Tensor, extra_maps: torch.Tensor | None, batch: ViewBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one batch: the mean over all ordered pairs of a view that predicts and a large one that tells.

        Args:
            maps: float32 (2B, D, h, w), of view 1, then of view 2.
            extra_maps: float32 (EB, D, s, s) of the extra views one after the other, or None.
            batch: The views.

        Returns:
            Scalar, and the embeddings of the places that both views show, float32 (2N, 128), of unit norm.
        """
        shown = read_shared(maps, batch.crops, batch.places, batch.offsets).chunk(2)
        pairs = [] if extra_maps is None else _read_extra(maps.detach(), extra_maps, batch)
        parts = batch.dealing.gather_ragged([*shown, *(part for _, *pair in pairs for part in pair)])
        count = len(parts[0])  # N
        if not count:
            return torch.cat(parts[:2]).sum(), parts[0].new_zeros(0, PROJECTION)
        # of a pair without places in common nothing is asked
        views = [view for (view, *_), part in zip(pairs, parts[2::2], strict=True) if len(part)]
        parts = [part for part in parts if len(part)]
        with torch.autocast(maps.device.type, enabled=False):
            embeddings = F.normalize(self.project_place(torch.cat(parts)), dim=1)
            scores = embeddings @ F.normalize(self.clusters, dim=1).T  # (2N + ..., count)
            first, second, *others = scores.split([len(part) for part in parts])
            losses = [self._loss(first, second, 1), self._loss(second, first, 0)]
            for view, telling, told in zip(views, others[::2], others[1::2], strict=True):
                losses.append(self._loss(told, telling, view))
        shared = embeddings[: 2 * count]
        self._remember(shared.detach())
        return torch.stack(losses).mean(), shared

    def _loss(self, told: torch.Tensor, telling: torch.Tensor, view: int) -> torch.Tensor:
        """Scores of one view predict the codes of the same places in the large view `view`."""
        past = None
        if self.params.queue and int(self.queued) == self.params.queue:
            past = self.queue[view] @ F.normalize(self.clusters.detach(), dim=1).T
        return prediction_loss(told, telling, self.params, past)

    def _remember(self, embeddings: torch.Tensor) -> None:
        """Put the places of a step (2N, 128) into the queue; a step that the loop will throw away leaves no trace."""
        size = self.params.queue
        if not size or not self.training or not torch.isfinite(embeddings).all():
            return
        new = embeddings.view(2, -1, PROJECTION)
        self.queue.copy_(torch.cat([self.queue, new], dim=1)[:, -size:])
        self.queued.add_(new.shape[1]).clamp_(max=size)


def prediction_loss(
    told: torch.Tensor, telling: torch.Tensor, params: DenseClustersParams, past: torch.Tensor | None = None
) -> torch.Tensor:
    """One view predicts the balanced codes of another (Caron et al. 2020, eq. 1-3).

    Args:
        told: float32 (N, count), cosines to the clusters.
        telling: float32 (N, count), of the same places in another view; carries no gradient.
        params: Group `pretrain.clusters`.
        past: float32 (Q, count), cosines of places of past steps, which count in the balance only (section 3.1 there).

    Returns:
        Scalar.
    """
    scores = telling.detach()
    if past is not None:
        scores = torch.cat([past, scores])
    codes = balanced_codes(scores, epsilon=params.epsilon, iterations=params.iterations).exp()
    return F.cross_entropy(told / params.temperature, codes[-len(telling) :])


def _read_extra(
    maps: torch.Tensor, extra_maps: torch.Tensor, batch: ViewBatch
) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """For each pair of a large and an extra view: which large one, its rows, and those of the extra one."""
    pairs = []
    for extra, extra_map in zip(batch.extra, extra_maps.chunk(len(batch.extra)), strict=True):
        for view, large in enumerate(maps.chunk(2)):
            crops = (batch.crops[view], extra.crop)
            telling, told = read_pair((large, extra_map), crops, extra.places, extra.offsets)
            pairs.append((view, telling, told))
    return pairs
