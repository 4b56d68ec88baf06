"""Frames with their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from pipeline.data.loading import FrameDataset, load_batches, ordered_batches
from pipeline.evaluation.truth import GroundTruth


class LabelledFrames:
    """Images that all have a mask.

    Attributes:
        frames: The images.
    """

    def __init__(self, frames: FrameDataset, truth: GroundTruth) -> None:
        self.frames = frames
        self._truth = truth

    def batches(self, batch_size: int, workers: int, device: torch.device) -> Iterator[tuple[list[int], torch.Tensor]]:
        """All images in order: indices, and uint8 (B, 3, H, W), which will go to `device`."""
        batches = ordered_batches(self.frames.sizes, batch_size)
        return load_batches(self.frames, batches, workers=workers, device=device)

    def mask(self, index: int) -> np.ndarray:
        """Class ids of one image, int32 (H, W)."""
        return self._truth.read(self.frames.rows[index].image_id)

    def has_labels(self, indices: Sequence[int], ignore_index: int) -> bool:
        """Whether one of these images has a pixel that is not ignored; no more masks are read than it takes."""
        return any((self.mask(index) != ignore_index).any() for index in indices)

    def take(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of one shape, uint8 (B, 3, H, W), and their class ids, int64 (B, H, W)."""
        masks = np.stack([self.mask(index) for index in indices]).astype(np.int64)
        return torch.stack([self.frames[index] for index in indices]), torch.from_numpy(masks)
