"""Raw vectors between the two passes of the extraction: whole files in a scratch folder, or none."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from pipeline.runtime.artifacts import replace_file


class RawShards:
    """Numbered float32 arrays (n, cells, D), each with its digest beside it.

    Attributes:
        folder: Where they lie; it must belong to one set of parameters, inputs and code.
    """

    def __init__(self, folder: Path) -> None:
        """Use what is in `folder` already, if it is whole."""
        self.folder = folder

    def save(self, part: int, vectors: np.ndarray) -> None:
        """Keep an array; it counts as finished only when its digest is on disk too."""
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        replace_file(self._path(part), buffer.getvalue())
        replace_file(self._digest_path(part), hashlib.sha256(buffer.getbuffer()).hexdigest().encode())

    def load(self, part: int) -> np.ndarray:
        """A finished array, mapped from disk."""
        return np.load(self._path(part), mmap_mode="r", allow_pickle=False)

    def is_finished(self, part: int) -> bool:
        """Whether an array was saved and still agrees with its digest."""
        try:
            noted = self._digest_path(part).read_text("ascii", errors="replace")
            with self._path(part).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == noted
        except FileNotFoundError:
            return False

    def _path(self, part: int) -> Path:
        return self.folder / f"raw-{part:05d}.npy"

    def _digest_path(self, part: int) -> Path:
        return self.folder / f"raw-{part:05d}.sha256"
