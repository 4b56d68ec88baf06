"""Frames of any channels as pictures for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAILS = (1, 99)  # percentiles that a picture's darkest and lightest levels are stretched to


def picture_of(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show a frame: RGB as it is; of more channels the first three, of fewer the first as gray, each stretched.

    Args:
        frame: uint8 (C, h, w).

    Returns:
        RGB, uint8 (h, w, 3).
    """
    if len(frame) == 3:
        return np.ascontiguousarray(frame.transpose(1, 2, 0))
    shown = frame[:3] if len(frame) > 3 else frame[:1]
    low, high = np.percentile(shown, TAILS, axis=(1, 2))
    span = np.where(high > low, high - low, 255)[:, None, None]
    start = np.where(high > low, low, 0)[:, None, None]
    stretched = np.rint(255 * np.clip((shown - start) / span, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(stretched, (3, *frame.shape[1:])).transpose(1, 2, 0))
