"""Two views agree on the clusters of their places: SwAV (Caron et al. 2020) at every place of the decoder's map.

A contrastive loss tells the places of an image apart, and the cheapest way to do so is to say where they are. Here
places are only told to which of some clusters they belong, all clusters being used equally, and nothing separates
two places that look alike. View 2 is read a little beside the place of view 1 (as IIC does, Ji et al. 2019), so that
a cluster is a texture or a part rather than an edge.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.encoder import Encoder
from pipeline.clustering.balancing import balanced_codes
from pipeline.data.views import Geometric
from pipeline.params import DenseClustersParams, PretrainParams
from pipeline.pretext.contrast import PROJECTION, embedding_std, projector
from pipeline.pretext.places import read_shared


class DenseClusters(nn.Module):
    """The encoder with the projection and the clusters that only the pretext needs.

    Args:
        encoder: What is trained.
        params: Group `pretrain`.
    """

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__()
        self.encoder = encoder
        self.params = params.clusters
        channels = encoder.architecture["channels"]
        self.project_place = projector(channels, 2 * channels)
        self.clusters = nn.Parameter(F.normalize(torch.randn(self.params.count, PROJECTION), dim=1))

    def forward(
        self,
        views: tuple[torch.Tensor, torch.Tensor],
        crops: tuple[Geometric, Geometric],
        places: torch.Tensor,
        offsets: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The losses of one batch.

        Args:
            views: Twice (B, 3, h, w), normalised.
            crops: How each view was cut from its frame.
            places: float32 (B, M, 2) in 0..1; where to compare, within the part that both views show.
            offsets: float32 (B, M, 2); how far view 2 reads from there, in fractions of the frame.

        Returns:
            Scalars loss, embedding_std.
        """
        rows = read_shared(self.encoder(torch.cat(views)).float(), crops, places, offsets)  # (2N, D)
        if not len(rows):
            return {"loss": rows.sum(), "embedding_std": torch.ones(())}
        with torch.autocast(rows.device.type, enabled=False):
            embedding = F.normalize(self.project_place(rows), dim=1)
            scores = embedding @ F.normalize(self.clusters, dim=1).T  # (2N, count)
            first, second = scores.chunk(2)
            loss = swapped_loss(first, second, self.params)
        return {"loss": loss, "embedding_std": embedding_std(embedding)}


def swapped_loss(first: torch.Tensor, second: torch.Tensor, params: DenseClustersParams) -> torch.Tensor:
    """Each view predicts the balanced codes of the other (Caron et al. 2020, eq. 1-3).

    Args:
        first: float32 (N, count), cosines to the clusters.
        second: float32 (N, count), of the same places in the other view.
        params: Group `pretrain.clusters`.

    Returns:
        Scalar.
    """
    losses = []
    for told, telling in ((first, second), (second, first)):
        codes = balanced_codes(telling.detach(), epsilon=params.epsilon, iterations=params.iterations).exp()
        losses.append(F.cross_entropy(told / params.temperature, codes))
    return torch.stack(losses).mean()
