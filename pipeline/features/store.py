"""Raw features by image, kept from one extraction to the next: an image that did not change is not encoded again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.manifest import ImageTable
from pipeline.features.raw_shards import RawShards
from pipeline.params import ExtractParams
from pipeline.runtime.artifacts import replace_file
from pipeline.runtime.device import describe_device
from pipeline.runtime.digests import stage_code_digest, value_digest


class FeatureStore:
    """Raw vectors of the cells of each image, in numbered files of many images, found by the image's SHA-256.

    A file counts once it is whole, so that an interrupted extraction goes on behind the last one.

    Args:
        folder: Where the files lie. It must belong to one backbone, one set of parameters, one code and one machine:
            nothing but the image distinguishes two entries.
    """

    def __init__(self, folder: Path) -> None:
        """Look which files are whole; the others are passed over."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._shards = RawShards(folder)
        self._places: dict[bytes, tuple[int, int]] = {}  # file and row
        parts = sorted(int(path.stem.removeprefix("raw-")) for path in folder.glob("raw-*.npy"))
        for part in parts:
            if self._keys(part).is_file() and self._shards.is_finished(part):
                self._note(part, self._keys(part).read_text("ascii").split())
        self._next = parts[-1] + 1 if parts else 0

    def __contains__(self, key: str) -> bool:
        """Whether the features of an image are here."""
        return bytes.fromhex(key) in self._places

    def __len__(self) -> int:
        """Number of images."""
        return len(self._places)

    def add(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Keep the features of some images.

        Args:
            keys: SHA-256 of each image, hexadecimal.
            vectors: float32 (n, cells, D).
        """
        if len(keys) != len(vectors):
            raise ValueError(f"{len(keys)} images, but features of {len(vectors)}")
        replace_file(self._keys(self._next), "\n".join(keys).encode())
        self._shards.save(self._next, vectors)
        self._note(self._next, keys)
        self._next += 1

    def load(self, keys: Sequence[str]) -> np.ndarray:
        """The features of some images in the order asked for, float32 (n, cells, D).

        Raises:
            KeyError: An image is not here.
        """
        places = np.array([self._places[bytes.fromhex(key)] for key in keys]).reshape(-1, 2)
        found: np.ndarray | None = None
        for part in np.unique(places[:, 0]).tolist():
            here = np.flatnonzero(places[:, 0] == part)
            held = self._shards.load(part)
            if found is None:
                found = np.empty((len(keys), *held.shape[1:]), np.float32)
            found[here] = held[places[here, 1]]
        if found is None:
            raise KeyError("no images asked for")
        return found

    def _keys(self, part: int) -> Path:
        return self.folder / f"raw-{part:05d}.keys"

    def _note(self, part: int, keys: Sequence[str]) -> None:
        if len(self._shards.load(part)) == len(keys):
            self._places |= {bytes.fromhex(key): (part, row) for row, key in enumerate(keys)}


def store_name(params: ExtractParams, *others: Any) -> str:
    """A name of the store for all that the raw features of an image depend on beside its file.

    Args:
        params: Of group `extract`, those count that the backbone's work depends on.
        *others: Plain values: the backbone's digest, the frame, versions, machine, device. The stage's code is added.
    """
    used = params.model_dump(include={"levels", "mode", "source", "batch_size", "precision"})
    return value_digest([used, others, stage_code_digest("extract")])[:16]


def place_store(
    folder: Path,
    params: ExtractParams,
    backbone: str,
    table: ImageTable,
    notes: Mapping[str, Any],
    device: torch.device,
    *,
    spared: bool,
) -> Path:
    """The store's place: another one for each kind of device, and for runs that spare memory.

    Such a run may halve its batches, and so change last bits. It takes what one that did not has kept and goes on; the
    way back would mix both.

    Args:
        folder: Of all stores.
        params: Of group `extract`.
        backbone: Its digest.
        table: How the images are framed and read.
        notes: The run's, with versions and machine.
        device: Where the backbone computes.
        spared: Whether the run spares memory.
    """
    made_of = backbone, f"{table.frame} {table.bands}", notes["versions"], notes["machine"], describe_device(device)
    whole, halved = (folder / store_name(params, *made_of, spare) for spare in (False, True))
    if spared and whole.is_dir() and not halved.exists():
        whole.rename(halved)
    return halved if spared else whole


def limit_stores(folder: Path, limit: float) -> None:
    """Remove those of the stores beside this one that were used longest ago, until all take no more than a limit.

    Args:
        folder: The store that was used just now, which stays.
        limit: Bytes of all stores together.
    """
    os.utime(folder)
    others = [other for other in folder.parent.iterdir() if other.is_dir() and other != folder]
    held = _size(folder)
    for other in sorted(others, key=lambda store: store.stat().st_mtime_ns, reverse=True):
        held += _size(other)
        if held > limit:
            shutil.rmtree(other, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
