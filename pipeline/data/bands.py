"""Channels other than RGB: how their values become the levels 0..255 of a frame, learned from the train images."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.runtime.randomness import generator

TAILS = (0.5, 99.5)  # percentiles of the train images that become levels 0 and 255: a few outliers must not decide
SAMPLED = 2**22  # pixels of all train images together, at most 4096 of each
MAX_CHANNELS = 512
MIN_STD = 1 / 255  # of a channel that is about constant: its noise is not to be blown up


@dataclass(frozen=True)
class Bands:
    """The scale and the statistics of every channel.

    Attributes:
        values: Type of the values in the files, such as "uint16".
        low: For each channel the value that becomes level 0; likewise `high` for 255. Values beyond are clipped. Files
            of 8 bits keep their levels: 0 and 255.
        high: See `low`.
        mean: Of each channel over the train images, in 0..1 after scaling; likewise `std`, the standard deviation.
        std: See `mean`.
    """

    values: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> Bands:
        """Make them again of what `dataclasses.asdict` and JSON made of them.

        Raises:
            KeyError, TypeError, ValueError: The notes are none.
        """
        low, high, mean, std = (tuple(map(float, notes[name])) for name in ("low", "high", "mean", "std"))
        lengths = {len(part) for part in (low, high, mean, std)}
        if len(lengths) != 1 or not 1 <= len(low) <= MAX_CHANNELS or np.dtype(notes["values"]).kind not in "uif":
            raise ValueError(f"not the scale of 1 to {MAX_CHANNELS} channels of numbers: {str(notes)[:100]}")
        if not np.isfinite([low, high, mean, std]).all() or np.any(np.less_equal(high, low)) or min(std) <= 0:
            raise ValueError(f"a scale that is none: {str(notes)[:100]}")
        return cls(str(notes["values"]), low, high, mean, std)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.low)

    def scale(self, pixels: np.ndarray) -> NDArray[np.uint8]:
        """Bring the values of an image to levels.

        Args:
            pixels: (H, W, channels) of any type.

        Returns:
            uint8 of the same shape.
        """
        levels = np.empty(pixels.shape, np.uint8)
        for channel, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            share = (pixels[..., channel].astype(np.float64) - low) / (high - low)
            levels[..., channel] = np.rint(255 * np.clip(share, 0, 1))
        return levels


class BandsCensus:
    """Gathers samples of the train images from several threads; the order in which they come does not matter.

    Args:
        channels: Of every image.
        images: How many there are at most.
        seed: Seed of the sample.
    """

    def __init__(self, channels: int, images: int, seed: int) -> None:
        self._channels, self._seed = channels, seed
        self._each = min(4096, max(16, SAMPLED // max(images, 1)))
        self._samples: dict[str, np.ndarray] = {}
        self._found: dict[str, str] = {}  # an image of each type of values
        self._lock = threading.Lock()

    def add(self, image_id: str, pixels: np.ndarray, *, train: bool) -> None:
        """Take note of an image.

        Args:
            image_id: Its id, on which the sample depends.
            pixels: (H, W, channels).
            train: Whether it is sampled.
        """
        rows = pixels.reshape(-1, self._channels)
        chosen = generator(self._seed, f"bands/{image_id}").integers(len(rows), size=min(self._each, len(rows)))
        with self._lock:
            name = pixels.dtype.name
            self._found[name] = min(image_id, self._found.get(name, image_id))
            if train:
                self._samples[image_id] = rows[chosen]

    def finish(self) -> Bands:
        """The scale and the statistics.

        Raises:
            InputError: The images hold values of several types, whose scales have nothing to do with each other.
        """
        if len(self._found) > 1:
            (one, first), (other, second) = sorted(self._found.items())[:2]
            raise InputError(
                f"{first} holds {one} values, but {second} {other}; with data.channels {self._channels} all images "
                "need the same type, so convert some"
            )
        sample = np.concatenate([self._samples[image_id] for image_id in sorted(self._samples)])  # (N, channels)
        (values,) = self._found
        if values == "uint8":
            low, high = np.zeros(self._channels), np.full(self._channels, 255.0)
        else:
            low, high = np.percentile(sample.astype(np.float64), TAILS, axis=0)
            high = np.where(high > low, high, low + 1)
        scale = Bands(values, tuple(low.tolist()), tuple(high.tolist()), (), ())
        levels = scale.scale(sample[None])[0] / 255.0
        std = np.maximum(levels.std(axis=0), MIN_STD)
        return Bands(values, scale.low, scale.high, tuple(levels.mean(axis=0).tolist()), tuple(std.tolist()))
