"""Two-view contrastive learning with a global and a dense term, for images of scenes.

The global term is SimCLR's (Chen et al. 2020) on the pooled last map. The dense term asks the same of single places,
as DenseCL (Wang et al. 2021) does, with two differences: places correspond by the known geometry of the two crops
instead of by similarity, and they are read from the decoder's map, so that the decoder is trained as well.
"""

from __future__ import annotations

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.params import PretrainParams
from pipeline.pretext.batches import ViewBatch
from pipeline.pretext.contrast import embedding_std, nt_xent, projector
from pipeline.pretext.method import Losses, PretextMethod
from pipeline.pretext.places import read_shared


class GlobalDense(PretextMethod):
    """The encoder with the projections that only the pretext needs.

    Args:
        encoder: What is trained.
        params: Group `pretrain`.
    """

    def __init__(self, encoder: Encoder, params: PretrainParams) -> None:
        super().__init__(encoder, params)
        self.temperature = params.temperature
        self.dense_weight = params.dense_weight
        width, channels = encoder.backbone.widths[-1], encoder.architecture["channels"]
        self.project_image = projector(width, width)
        self.project_place = projector(channels, 2 * channels)

    def forward(self, batch: ViewBatch) -> Losses:
        """The losses of one batch.

        Args:
            batch: The views.

        Returns:
            Scalars loss, global_loss, dense_loss, embedding_std.
        """
        maps = self.encoder.backbone(torch.cat(batch.views))
        pooled = maps[-1].float().mean((2, 3))  # (2B, widths[-1])
        first, second = self.project_image(batch.dealing.gather(pooled, 2)).chunk(2)
        rows = read_shared(self.encoder.decoder(maps).float(), batch.crops, batch.places, batch.offsets)
        rows = torch.cat(batch.dealing.gather_ragged(rows.chunk(2)))
        places_one, places_two = (self.project_place(rows) if len(rows) else rows).chunk(2)
        global_loss = nt_xent(first, second, self.temperature)
        dense_loss = nt_xent(places_one, places_two, self.temperature)
        loss = (1 - self.dense_weight) * global_loss + self.dense_weight * dense_loss
        spread = embedding_std(first) if len(first) > 1 else torch.ones(())
        return {"loss": loss, "global_loss": global_loss, "dense_loss": dense_loss, "embedding_std": spread}
