"""Which part of the segmenter is trained; the rest keeps its weights and its batch-norm statistics."""

from __future__ import annotations

from typing import Literal

from torch import nn

from pipeline.segmentation.model import Segmenter

Trained = Literal["all", "last", "decoder"]


def freeze(segmenter: Segmenter, trained: Trained) -> None:
    """Keep gradients from the parts that are not trained.

    Args:
        segmenter: Its encoder's backbone is cut.
        trained: `all`; `last`: res5 and what follows; `decoder`: nothing of the backbone.
    """
    for part in _frozen(segmenter, trained):
        part.requires_grad_(False)


def set_training(segmenter: Segmenter, trained: Trained) -> None:
    """Put the trained parts into training mode, and the frozen ones into evaluation mode."""
    segmenter.train()
    for part in _frozen(segmenter, trained):
        part.eval()


def _frozen(segmenter: Segmenter, trained: Trained) -> list[nn.Module]:
    backbone = segmenter.encoder.backbone
    if trained == "all":
        return []
    return [backbone] if trained == "decoder" else [backbone.stem, *backbone.stages[:-1]]
