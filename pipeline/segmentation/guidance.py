"""Pyramid guidance (PGG): what the pseudo labels of cells do in training, and how they are made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.data.views import Geometric
from pipeline.features.pooling import pool_cells
from pipeline.params import PggParams, PyramidLossParams
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.randomness import generator
from pipeline.segmentation.cell_contrast import cell_contrast_loss
from pipeline.segmentation.losses import pyramid_loss
from pipeline.segmentation.model import PyramidHead
from pipeline.segmentation.regrouping import group_cells, pool_embeddings, rename_labels
from pipeline.segmentation.view_cells import pixel_labels
from pipeline.training.dealing import Dealing


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


class PyramidGuidance(nn.Module):
    """The pseudo labels of the train images, and the heads that tell them, one per level.

    Args:
        levels: Pseudo labels of the train images, ascending in cells; those that `params` does not use are left out.
        channels: D.
        params: Group `train.pgg`.
        seed: Seed of the heads' weights; torch's global generator is left as it was.

    Attributes:
        levels: The levels in use.
        changed: Share of cells whose label the last `regroup` changed, by the name of its column.
    """

    def __init__(self, levels: Sequence[PyramidLevel], channels: int, params: PyramidLossParams, seed: int) -> None:
        super().__init__()
        self.params, self.channels = params, channels
        chosen = params.levels or [level.cells for level in levels]
        self.levels = [level for level in levels if level.cells in chosen] if params.needs_labels else []
        self._given = tuple(self.levels)
        self.heads = nn.ModuleList(self._draw_heads(seed))
        self.changed: dict[str, float] = {}

    @property
    def pixel_label_counts(self) -> list[int]:
        """Labels K_l of each level, if pixels are given the labels of their cells; else empty."""
        return [level.k for level in self.levels] if {"prior", "strata"} & set(self.params.use) else []

    def loss(
        self, whole: torch.Tensor, indices: list[int], dealing: Dealing | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Classification and contrast of the cells of a batch, averaged over the levels.

        Args:
            whole: float32 (B, D, h, w), embeddings of whole frames.
            indices: The images' indices.
            dealing: The processes that share the batch, of which these are one's own images; None for one process.

        Returns:
            Scalar, and for each level the share of cells told right, and of cells whose nearest cell has their label.
        """
        losses, told = [], {}
        dealing = dealing or Dealing()
        indices = dealing.gather(torch.tensor(indices)).tolist()
        for position, level in enumerate(self.levels):
            cells = dealing.gather(pool_cells(whole, level.cells)).flatten(0, 1)
            labels = level.labels[indices].flatten().to(whole.device)
            margins = level.margins[indices].flatten().to(whole.device)
            terms = []
            if "classification" in self.params.use:
                loss, right = pyramid_loss(self.heads[position](cells), labels, margins, level.min_margin)
                terms.append(loss)
                told[f"pgg_top1_level_{level.cells}"] = right
            if "contrast" in self.params.use:
                loss, right = cell_contrast_loss(cells, labels, margins, level.min_margin, self.params.temperature)
                terms.append(loss)
                told[f"pgg_nearest_level_{level.cells}"] = right
            losses.append(torch.stack(terms).sum())
        stacked = torch.stack(losses)
        if not self.params.level_weights:
            return stacked.mean(), told
        weights = torch.tensor(self.params.level_weights, device=whole.device)
        return (stacked * weights).sum() / weights.sum(), told

    def pixel_labels(self, indices: list[int], crop: Geometric, size: tuple[int, int]) -> list[torch.Tensor]:
        """Labels of the cells in which the pixels of a view lie.

        Args:
            indices: The images' indices.
            crop: The geometric transform of the view.
            size: Height h and width w of the view's embedding.

        Returns:
            For each level int64 (B, h, w); nothing if no use asks for them.
        """
        if not self.pixel_label_counts:
            return []
        return [pixel_labels(level.labels[indices], crop, level.cells, size) for level in self.levels]

    def regroup(
        self,
        batches: Iterable[tuple[list[int], torch.Tensor]],
        embed: Callable[[torch.Tensor], torch.Tensor],
        grouping: PggParams,
        draw: tuple[int, int],
        *,
        ranks: Ranks = ALONE,
        total: int = 0,
    ) -> None:
        """Make the labels of all levels anew from the segmenter's embedding; they keep the names of the old ones.

        Args:
            batches: Every train image once, uint8.
            embed: The images to float32 (B, D, h, w), in evaluation mode.
            grouping: Group `pgg`, of which `k` is passed over: each level keeps its K_l.
            draw: Seed and epoch, from which the randomness is derived.
            ranks: The processes; see `pool_embeddings`. The first one makes the labels of all.
            total: See there.
        """
        cells, images = [level.cells for level in self.levels], len(self.levels[0].labels)
        pooled = pool_embeddings(batches, embed, cells, images, ranks=ranks, total=total)
        # `pooled` is empty in processes that only help
        for position, (level, vectors) in enumerate(zip(self.levels, pooled, strict=ranks.is_first)):
            seed = int(generator(draw[0], "regroup", draw[1], level.cells).integers(2**31))
            old = level.labels.numpy()
            found, margins = group_cells(vectors, level.k, grouping, seed)
            labels = rename_labels(found, old, level.k)
            self.changed[f"pgg_changed_level_{level.cells}"] = float((labels != old).mean())
            threshold = min_margin(margins[labels >= 0], self.params.drop_fraction)
            self.levels[position] = replace(
                level, labels=torch.from_numpy(labels), margins=torch.from_numpy(margins), min_margin=threshold
            )
        self.levels, self.changed = ranks.broadcast((self.levels, self.changed))

    def renew_heads(self, seed: int) -> None:
        """Draw the heads' weights again, in place, so that an optimiser keeps its hold on them."""
        self.heads.load_state_dict(nn.ModuleList(self._draw_heads(seed)).state_dict())

    def get_extra_state(self) -> dict[str, Any]:
        """The labels, for `state_dict`, if they were made anew."""
        levels = [[level.labels, level.margins, level.min_margin] for level in self.levels]
        return {"levels": levels if self.changed else [], "changed": self.changed}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the labels back."""
        self.changed = state["changed"]
        self.levels = list(self._given)
        if self.changed:
            self.levels = [
                replace(level, labels=labels, margins=margins, min_margin=threshold)
                for level, (labels, margins, threshold) in zip(self.levels, state["levels"], strict=True)
            ]

    def _draw_heads(self, seed: int) -> list[PyramidHead]:
        if not self.params.has_loss or "classification" not in self.params.use:
            return []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [PyramidHead(self.channels, level.k, self.params) for level in self.levels]


def min_margin(margins: np.ndarray, drop_fraction: float) -> float:
    """The margin below which the least certain `drop_fraction` of cells lies; minus infinity when none is dropped."""
    return float(np.quantile(margins, drop_fraction)) if drop_fraction and margins.size else float("-inf")
