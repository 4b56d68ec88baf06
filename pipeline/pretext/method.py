"""What a pretext method is: a network around the encoder that makes a loss of a batch of views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.place_clusters import PlaceClusters

Losses = dict[str, torch.Tensor]


class PretextMethod(nn.Module, ABC):
    """The encoder with what only the pretext needs.

    A subclass is one method. Everything that it remembers from step to step is a parameter or a buffer, and all its
    random numbers come from `ViewBatch.draw`, so that an interrupted run can go on. It draws its first weights from
    torch's global generator, which the caller has seeded.

    Attributes:
        encoder: What is trained.
        extra_views: How many small views it wants in a batch.
    """

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__()
        self.encoder = encoder
        self.params = params
        self.extra_views = 0

    @abstractmethod
    def forward(self, batch: ViewBatch) -> Losses:
        """Scalars of one step: `loss` is minimised, `embedding_std` tells a collapse, others are for the curves."""


class BackboneMethod(PretextMethod):
    """A method that says nothing about the decoder, which is trained beside it.

    The decoder sees the backbone's maps without a gradient to them and learns by the places of `dense_clusters`. So
    the backbone is the work of the method alone, and the decoder's map, on which the later stages work by default, is
    the best that one linear layer per stage makes of it. `extract.source` can read the backbone's own maps as well.

    Attributes:
        views_teach: Whether the method learns from the maps of the two views; if not, they are made without gradient.
    """

    views_teach = True

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        beside = params.clusters.model_copy(update={"queue": 0, "extra_views": 0})
        self.beside = PlaceClusters(encoder.architecture["channels"], beside)

    @abstractmethod
    def learn(self, maps: Sequence[torch.Tensor], batch: ViewBatch) -> Losses:
        """The method's own losses.

        Args:
            maps: The backbone's maps of both views, (2B, widths[i], h, w), fine to coarse.
            batch: The views.

        Returns:
            Scalars, `loss` and `embedding_std` among them.
        """

    def forward(self, batch: ViewBatch) -> Losses:
        """Scalars of one step: the sum of the method's loss and the decoder's, and both."""
        with torch.set_grad_enabled(self.views_teach and torch.is_grad_enabled()):
            maps = self.encoder.backbone(torch.cat(batch.views))
        own = self.learn(maps, batch)
        decoded = self.encoder.decoder([map_.detach() for map_ in maps]).float()
        decoder_loss, _ = self.beside(decoded, None, batch)
        loss = own.pop("loss")
        return {"loss": loss + decoder_loss, "method_loss": loss, "decoder_loss": decoder_loss, **own}


def pool_map(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector per image: the mean of the coarsest map, float32 (B, widths[-1])."""
    return maps[-1].float().mean((2, 3))
