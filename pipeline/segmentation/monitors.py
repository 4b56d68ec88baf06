"""Monitors of the pixel clusters in training, which stop a run that has collapsed."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.clustering.agreement import normalised_mutual_information, relative_entropy
from pipeline.errors import TrainingError
from pipeline.params import TrainParams
from pipeline.training.dealing import Dealing

ADVICE = "lower train.learning_rate, raise train.pgg.weight, or give fewer train.k"


class ClusterMonitors:
    """What is watched over an epoch.

    Args:
        params: Group `train`.
        device: Where the assigned labels are.

    Attributes:
        histogram: int64 (K,), pixels assigned to each cluster in this epoch, both views together.
        values: What was found at the start of the epoch, by the name of its column.
    """

    def __init__(self, params: TrainParams, device: torch.device) -> None:
        self.params = params
        self.histogram = torch.zeros(params.k, dtype=torch.int64, device=device)
        self.probe = torch.zeros(0, dtype=torch.int64)
        self.values: dict[str, float] = {}

    def begin_epoch(self, epoch: int, effective_rank: float, probe: torch.Tensor) -> None:
        """Start counting anew, and compare with the epoch before.

        Args:
            epoch: Index of the epoch.
            effective_rank: Of the embeddings that the prototypes were fitted on.
            probe: int64, labels of the same pixels in every epoch.

        Raises:
            TrainingError: The embeddings collapsed.
        """
        if effective_rank < self.params.min_effective_rank:
            raise TrainingError(
                f"epoch {epoch + 1}: the embeddings collapsed, effective_rank {effective_rank:.2f} is below "
                f"train.min_effective_rank {self.params.min_effective_rank}; {ADVICE}"
            )
        self.histogram.zero_()
        self.values = {"effective_rank": effective_rank}
        if len(self.probe):
            self.values["nmi"] = normalised_mutual_information(self.probe.numpy(), probe.numpy())
        self.probe = probe

    def count(self, labels: torch.Tensor, dealing: Dealing) -> None:
        """Count assigned pixels, int64 of any shape, of this process and of those that share the batch with it."""
        self.histogram += dealing.total(torch.bincount(labels.flatten(), minlength=self.params.k))

    def check_clusters(self, epoch: int) -> dict[str, float]:
        """What the epoch made of the clusters; nothing where no pixel was assigned.

        Raises:
            TrainingError: The clusters collapsed; the message names the monitor and what to change.
        """
        counts = self.histogram.cpu().numpy()
        if not counts.sum():
            return {}
        used, largest = int((counts > 0).sum()), float(counts.max() / counts.sum())
        if used / self.params.k < self.params.min_used:
            raise TrainingError(
                f"epoch {epoch + 1}: the clusters collapsed, clusters_used {used} of "
                f"{self.params.k} is below train.min_used {self.params.min_used}; {ADVICE}"
            )
        if largest > self.params.max_share:
            raise TrainingError(
                f"epoch {epoch + 1}: the clusters collapsed, largest_share {largest:.3f} is above train.max_share "
                f"{self.params.max_share}; {ADVICE}"
            )
        return {"clusters_used": float(used), "largest_share": largest, "entropy": relative_entropy(counts)}

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the epoch, and the next one, depend on."""
        return {"histogram": self.histogram, "probe": self.probe, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.histogram = state["histogram"].to(self.histogram.device)
        self.probe, self.values = state["probe"], state["values"]
