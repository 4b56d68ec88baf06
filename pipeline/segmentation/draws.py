"""Further final clusterings of one network: they tell how much of a score the last k-means decides by chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.errors import InputError
from pipeline.runtime.artifacts import Artifact
from pipeline.segmentation.losses import best_of_groups, prototype_logits

FILE = "final_draws.safetensors"


@dataclass(frozen=True)
class FinalDraws:
    """Final clusterings that start from different draws.

    Attributes:
        prototypes: float32 (R, K', D), one set per draw.
        groups: int64 (R, K'), the cluster in 0..K-1 that each prototype belongs to.
        k: Number of clusters K.
    """

    prototypes: torch.Tensor
    groups: torch.Tensor
    k: int

    @property
    def count(self) -> int:
        """Number of draws R."""
        return len(self.prototypes)

    def to(self, device: torch.device) -> FinalDraws:
        """The same on another device."""
        return FinalDraws(self.prototypes.to(device), self.groups.to(device), self.k)

    def scores(self, embedding: torch.Tensor, draw: int) -> torch.Tensor:
        """Cluster scores in one draw: the best over the prototypes of each cluster.

        Args:
            embedding: float32 (B, D, h, w), unit norm.
            draw: Which draw, in 0..R-1.

        Returns:
            float32 (B, K, h, w).
        """
        logits = prototype_logits(embedding, self.prototypes[draw])  # (B, K', h, w)
        return best_of_groups(logits, self.groups[draw], self.k)


def load_final_draws(segmenter: Artifact, k: int) -> FinalDraws | None:
    """Load `final_draws.safetensors` of a segmenter.

    Args:
        segmenter: The folder.
        k: Number of clusters K.

    Returns:
        The draws, or None where the training stored none.

    Raises:
        InputError: The file is damaged or altered, or does not fit the segmenter.
    """
    if FILE not in segmenter.manifest["files"]:
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = segmenter.file(FILE)
    try:
        tensors = load_file(path)
        prototypes, groups = tensors["prototypes"].float(), tensors["groups"].long()
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{path}: not the final clusterings of a training ({error}); run stage train again") from None
    if prototypes.ndim != 3 or groups.shape != prototypes.shape[:2] or not len(prototypes):
        raise InputError(
            f"{path}: prototypes {tuple(prototypes.shape)} and groups {tuple(groups.shape)} do not fit each other; "
            "run stage train again"
        )
    if groups.min() < 0 or groups.max() >= k:
        raise InputError(
            f"{path}: groups name clusters {int(groups.min())} to {int(groups.max())}, but the segmenter has {k}; "
            "run stage train again"
        )
    return FinalDraws(prototypes, groups, k)
