"""More points than memory should hold, in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.clustering.kmeans import CHUNK
from pipeline.features.raw_shards import RawShards


class FilePoints:
    """Points in files, mapped when they are read, so that they are no memory of the process.

    Attributes:
        count: Number of points N.
        dimension: D.
    """

    def __init__(self, folder: Path, parts: Iterable[np.ndarray]) -> None:
        """Write the points, one file a part.

        Args:
            folder: For the files, absolute if other processes are to read them; the caller removes it.
            parts: float32 (n, D), of any norm but zero.
        """
        self._shards, self._ends = RawShards(folder), [0]
        self.dimension = 0
        for number, part in enumerate(parts):
            self._shards.save(number, part / np.linalg.norm(part, axis=1, keepdims=True))
            self._ends.append(self._ends[-1] + len(part))
            self.dimension = part.shape[1]
        self.count = self._ends[-1]

    def __len__(self) -> int:
        """Number of points."""
        return self.count

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Some points by ascending number, of unit norm, float32 (n, D)."""
        ends = np.searchsorted(rows, self._ends)
        found = [
            self._shards.load(part)[rows[first:end] - self._ends[part]]
            for part, (first, end) in enumerate(pairwise(ends))
        ]
        return np.concatenate(found)

    @property
    def chunk_count(self) -> int:
        """Number of `chunks`."""
        return sum(-(-(end - first) // CHUNK) for first, end in pairwise(self._ends))

    def chunks(self) -> Iterator[np.ndarray]:
        """All points in order, float32 (n, D), unit norm, a few thousand at a time; no chunk spans two files."""
        for part in range(len(self._ends) - 1):
            points = self._shards.load(part)
            for first in range(0, len(points), CHUNK):
                yield np.asarray(points[first : first + CHUNK])
