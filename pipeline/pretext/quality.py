"""How good features are, told without labels and in the same way for all pretext methods.

Some images are shown in two fixed views. A good network finds an image, and a place of an image, again in the other
view, and uses many directions. High figures are needed, not sufficient: position or colour may be what is recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import Encoder
from pipeline.clustering.effective_rank import effective_rank
from pipeline.data.loading import shape_batches
from pipeline.params import PretrainParams
from pipeline.pretext.batches import draw_views
from pipeline.pretext.method import pool_map
from pipeline.pretext.places import read_pair
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.randomness import generator
from pipeline.training.loop import Loader

IMAGES, PLACES = 32, 16  # images at most, and places of each
VIEWS = {"min_area": 0.3, "jitter": 0.4, "hue": 0.1}  # whatever the method trains on
BEFORE_TRAINING = -1  # the epoch whose random numbers no training uses


class ViewQuality:
    """The images on which a network is measured, the same at every call.

    Args:
        params: Group `pretrain`.
        sizes: Frame height and width of every train image.
        load: Turns batches of indices into uint8 images (B, 3, h, w).
    """

    def __init__(self, params: PretrainParams, sizes: Sequence[tuple[int, int]], load: Loader) -> None:
        views = params.views.model_copy(update=VIEWS)
        self.params = params.model_copy(update={"views": views, "dense_cells": PLACES, "neighbourhood": 0.0})
        rng = generator(params.seed, "pretext quality")
        batches = shape_batches(sizes, IMAGES, rng, smallest=2)
        self.indices, self.frames = list[int](), torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
        if batches:
            self.indices, self.frames = next(iter(load([max(batches, key=len)])))

    @torch.no_grad()
    def measure(self, encoder: Encoder) -> dict[str, float]:
        """Measure a network as it is; it comes back in the mode in which it came.

        Returns:
            image_match: Share of views whose nearest view, by the mean of the backbone's last map, is of the same
                image; place_match: the same of places, by the decoder's map, among all places of all images;
                effective_rank: directions that the decoder's map uses there. All 0 where a map is not finite, as after
                steps that diverged; empty without two images of one shape, or where no two views overlap.
        """
        if not self.indices:
            return {}
        was_training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        batch = draw_views(copy_to(device, self.frames).float() / 255.0, self.params, BEFORE_TRAINING, self.indices, 0)
        images, decoded = [], []
        for part in torch.cat(batch.views).split(self.params.batch_size):
            with autocast(device, self.params.precision):
                maps = encoder.backbone(part)
                decoded.append(encoder.decoder(maps).float())
            images.append(pool_map(maps))
        encoder.train(was_training)
        first, second = torch.cat(decoded).chunk(2)
        places = read_pair((first, second), batch.crops, batch.places, batch.offsets)
        if not len(places[0]):
            return {}
        rows, pooled = F.normalize(torch.cat(places), dim=1), torch.cat(images)
        if not (rows.isfinite().all() and pooled.isfinite().all()):
            return {"image_match": 0.0, "place_match": 0.0, "effective_rank": 0.0}
        return {
            "image_match": match_share(*pooled.chunk(2)),
            "place_match": match_share(*places),
            "effective_rank": effective_rank(rows.cpu().numpy()),
        }

    def describe(self, encoder: Encoder, curves: Sequence[dict[str, float]]) -> dict[str, Any]:
        """What `pretext.json` holds: the method, the last row of its curves, and the quality of the result.

        Args:
            encoder: The result.
            curves: One row per epoch; none for a method without training.
        """
        count = len(self.indices)
        chance = {"image_match_chance": 1 / count, "place_match_chance": 1 / (count * PLACES)} if count else {}
        last = {key: value for key, value in curves[-1].items() if key != "learning_rate"} if curves else {}
        described = {"method": self.params.method, "epochs": len(curves), "images_measured": count}
        return described | last | self.measure(encoder) | chance


def match_share(first: torch.Tensor, second: torch.Tensor) -> float:
    """How often the nearest row of the other view, by cosine, is a row's own match; the mean over both directions.

    Args:
        first: float32 (N, D).
        second: float32 (N, D); row i shows the same thing.

    Returns:
        A share in 0..1; 1 / N by chance.
    """
    cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    own = torch.arange(len(first), device=first.device)
    hits = (cosines.argmax(1) == own).float().mean() + (cosines.argmax(0) == own).float().mean()
    return float(hits / 2)
