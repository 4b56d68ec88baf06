"""Two views agree on the clusters of their places, on the decoder's map.

A contrastive loss tells the places of an image apart, and the cheapest way to do so is to say where they are. Here
places are only told to which of some clusters they belong, all clusters being used equally, and nothing separates
two places that look alike. View 2 is read a little beside the place of view 1 (as IIC does, Ji et al. 2019), so that
a cluster is a texture or a part rather than an edge.

Two options come from SwAV (Caron et al. 2020): a queue of past places, with which the clusters are balanced over more
than a batch, and small extra views, which must agree with the clusters that the two large views give.
"""

from __future__ import annotations

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std
from pipeline.pretext.method import Losses, PretextMethod
from pipeline.pretext.place_clusters import PlaceClusters


class DenseClusters(PretextMethod):
    """The encoder with the projection and the clusters that only the pretext needs.

    Args:
        encoder: What is trained.
        params: Group `pretrain`.
    """

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.extra_views = params.clusters.extra_views
        self.clusters = PlaceClusters(encoder.architecture["channels"], params.clusters)

    def forward(self, batch: ViewBatch) -> Losses:
        """The losses of one batch.

        Args:
            batch: The views, with `extra_views` extra ones.

        Returns:
            Scalars loss, embedding_std.
        """
        maps = self.encoder(torch.cat(batch.views)).float()
        extra = self.encoder(torch.cat([extra.view for extra in batch.extra])).float() if batch.extra else None
        loss, embeddings = self.clusters(maps, extra, batch)
        return {"loss": loss, "embedding_std": embedding_std(embeddings) if len(embeddings) else torch.ones(())}
