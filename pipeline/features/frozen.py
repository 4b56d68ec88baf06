"""The frozen encoder as a function from frames to one of its maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from pipeline.backbones.encoder import Encoder, Source
from pipeline.backbones.folding import fold_norms
from pipeline.data.views import normalise
from pipeline.params import Precision
from pipeline.runtime.device import autocast, copy_to
from pipeline.runtime.sparing import Portions


def freeze_encoder(
    encoder: Encoder, source: Source, *, device: torch.device, precision: Precision, spare: bool = False
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function that `extract_features` calls.

    Args:
        encoder: The self-supervised network; a copy of it is used, on `device` and with its batch norms folded.
        source: Name of one of its maps: res4, res5, last or decoder.
        device: Where to compute.
        precision: Of the forward pass; the map comes back as float32.
        spare: Whether batches are halved where the device has too little memory.

    Returns:
        uint8 (B, 3, h, w) to float32 (B, D, h', w').
    """
    network = fold_norms(encoder).to(device).to(memory_format=torch.channels_last)

    def encode(frames: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            features = network.forward_map(normalise(copy_to(device, frames)), source)
        return features.float()

    return partial(Portions(spare).map, encode)
