"""From coarse scores to the labels of an image's own pixels, a few rows at a time."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

AT_ONCE = 2**23  # scores that are enlarged at once: 32 MiB of float32


class Labeller:
    """Enlarges scores bilinearly to the size of an image, and keeps the best cluster of each pixel.

    The result is that of enlarging the whole map (`interpolate`, `align_corners=False`), with memory for a few rows.

    Attributes:
        labels: (H, W), the smallest unsigned type that holds K - 1; complete when all strips were added.
    """

    def __init__(self, rows: int, size: tuple[int, int], k: int) -> None:
        """Prepare.

        Args:
            rows: Of the whole map of scores.
            size: H and W of the image.
            k: Clusters K.
        """
        self.labels: NDArray[np.unsignedinteger] = np.zeros(size, np.min_scalar_type(k - 1))
        source = np.clip((np.arange(size[0]) + 0.5) * (rows / size[0]) - 0.5, 0, rows - 1)
        self._above = np.floor(source).astype(np.int64)
        self._below = np.minimum(self._above + 1, rows - 1)
        self._share = torch.from_numpy(source - self._above).float()
        self._held: torch.Tensor | None = None
        self._held_from = 0  # row of the map that `_held` starts with
        self._done = 0  # rows of the image

    def add(self, strip: torch.Tensor) -> None:
        """Add the next rows of the map, (K, rows, w)."""
        held = strip if self._held is None else torch.cat([self._held, strip], dim=1)
        end = int(np.searchsorted(self._below, self._held_from + held.shape[1]))  # rows of the image that are known
        width = self.labels.shape[1]
        step = max(1, AT_ONCE // (held.shape[0] * width))
        for top in range(self._done, end, step):
            rows = slice(top, min(top + step, end))
            share = self._share[rows, None].to(held.device)
            above, below = (held[:, indices[rows] - self._held_from] for indices in (self._above, self._below))
            mixed = torch.lerp(above, below, share)[None]  # (1, K, rows, w)
            enlarged = F.interpolate(mixed, (mixed.shape[2], width), mode="bilinear", align_corners=False)
            self.labels[rows] = enlarged[0].argmax(0).cpu().numpy()
        self._done = end
        known = self._held_from + held.shape[1]  # an image smaller than the map may skip rows that are yet to come
        needed = min(int(self._above[end]), known) if end < len(self._above) else known
        self._held = held[:, needed - self._held_from :]
        self._held_from = needed
