"""Extracts the pyramid features of all images in two passes that stream and can be interrupted.

The first pass encodes the images whose raw vectors are not in the store yet; the second centres all on the train
images, which are known only then, and writes the Parquet shards.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.loading import Batch, shape_batches
from pipeline.data.manifest import ImageRow
from pipeline.errors import InputError, ParamsError
from pipeline.features.encoding import Encode, encode_cells, fill_batch
from pipeline.features.pooling import cell_boxes
from pipeline.features.shards import shard_name, write_shard
from pipeline.features.standardising import Moments, Standardiser
from pipeline.features.store import FeatureStore
from pipeline.params import ExtractParams
from pipeline.runtime.distributed import ALONE, Ranks

Load = Callable[[list[list[int]]], Iterator[Batch]]
ROW_BYTES = 32  # of a Parquet row beside its vector: id, position, box


@dataclass(frozen=True)
class Images:
    """The images to extract, in the order of `images.parquet`.

    Attributes:
        ids: Their ids.
        keys: SHA-256 of each file, by which its raw vectors are kept.
        sizes: (h, w) of each frame in pixels.
        is_train: Whether each is in the train split; only those count for the mean.
    """

    ids: Sequence[str]
    keys: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    is_train: Sequence[bool]

    @classmethod
    def of_rows(cls, rows: Sequence[ImageRow], sizes: Sequence[tuple[int, int]]) -> Images:
        """Those of some rows of the table, whose frames have these sizes."""
        ids, keys = [row.image_id for row in rows], [row.sha256 for row in rows]
        return cls(ids, keys, sizes, [row.split == "train" for row in rows])


def extract_features(
    images: Images,
    load: Load,
    encode: Encode,
    *,
    dimension: int,
    params: ExtractParams,
    out: Path,
    store: FeatureStore,
    metadata: Mapping[str, Any],
    check_stop: Callable[[], None],
    log: logging.Logger,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, int], dict[str, int]]:
    """Extract features of all levels; memory does not grow with the number of images.

    Args:
        images: What to extract.
        load: Gives the frames of batches of indices in the order asked for, such as `load_batches`.
        encode: The frozen backbone: uint8 (B, 3, h, w) to float32 (B, D, h', w').
        dimension: Its number of channels D.
        params: Group `extract`.
        out: Folder to fill with `level=<l>/part-<n>.parquet`.
        store: Raw vectors; what it holds from an earlier or interrupted run is not encoded again.
        metadata: Plain values noted in every shard.
        check_stop: Raises to interrupt; called between batches.
        log: For one line when features are known already, and one about images that were given up.
        ranks: The processes that share the first pass, batch by batch; the first one does the rest.

    Returns:
        Rows of each file, by its name below `out`; and counts of images, cells, bad images and zero vectors. Nothing
        in processes that only help.

    Raises:
        InputError: The disk has too little space, no train image is usable, or features are not finite in more
            images than `extract.max_bad_fraction` allows.
        ParamsError: `extract.pca` exceeds the number of channels.
    """
    if params.pca > dimension:
        raise ParamsError(
            f"extract.pca: {params.pca} components are more than the {dimension} channels of source {params.source}; "
            f"use at most {dimension}, or 0 for none"
        )
    missing = ranks.broadcast(_find_missing(images, store) if ranks.is_first else [])
    if ranks.is_first:
        _require_space(images, len(missing), dimension, params, out, store.folder)
    if len(store):
        log.info("going on: the features of %d of %d images are known", len(images.ids) - len(missing), len(images.ids))
    _encode(images, missing, load, encode, dimension, params, store, check_stop, ranks)
    if not ranks.is_first:
        return {}, {}
    shards = _cut(len(images.ids), params.shard_images)
    bad, standardisers = _fit(images, shards, dimension, params, store, check_stop)
    if bad:
        log.warning("features of %d images are not finite and become zeros, the first of %s", len(bad), bad[0])
    rows: dict[str, int] = {}
    zeros = 0
    for part, shard in enumerate(shards):
        check_stop()
        raw = store.load([images.keys[index] for index in shard])  # (n, cells, D)
        failed = _non_finite(raw)
        for level, cells in _level_cells(params.levels):
            found = raw[:, cells]
            vectors = standardisers[level](np.nan_to_num(found) if failed else found)
            vectors[failed] = 0.0
            sizes = {images.sizes[index] for index in shard}
            of_size = {size: cell_boxes(level, *size) for size in sizes}  # few sizes, many images
            boxes = np.stack([of_size[images.sizes[index]] for index in shard])
            name = shard_name(level, part)
            ids = [images.ids[index] for index in shard]
            rows[name] = write_shard(out / name, ids, boxes, vectors, level, metadata)
            zeros += int((~vectors.any(axis=-1)).sum())
    counts = {"images": len(images.ids), "cells": sum(rows.values()), "bad": len(bad), "zero vectors": zeros}
    return rows, counts


def _cut(images: int, shard_images: int) -> list[range]:
    return [range(first, min(first + shard_images, images)) for first in range(0, images, shard_images)]


def _level_cells(levels: Sequence[int]) -> list[tuple[int, slice]]:
    """Where the cells of each level lie in the raw arrays."""
    ends = np.cumsum([0, *(level * level for level in levels)]).tolist()
    return [(level, slice(first, end)) for level, (first, end) in zip(levels, pairwise(ends), strict=True)]


def _find_missing(images: Images, store: FeatureStore) -> list[int]:
    """The images to encode; of equal files the first."""
    first = {key: index for index, key in reversed(list(enumerate(images.keys)))}
    return sorted(index for key, index in first.items() if key not in store)


def _encode(
    images: Images,
    missing: Sequence[int],
    load: Load,
    encode: Encode,
    dimension: int,
    params: ExtractParams,
    store: FeatureStore,
    check_stop: Callable[[], None],
    ranks: Ranks,
) -> None:
    batches = shape_batches([images.sizes[index] for index in missing], params.batch_size, None)
    batches = [[missing[position] for position in batch] for batch in batches]
    cells = sum(level * level for level in params.levels)
    own = ranks.own(batches)

    def encode_own() -> Iterator[np.ndarray]:
        for batch, (indices, frames) in zip(own, load(own), strict=True):
            if indices != batch:
                raise ValueError(f"asked for the frames {batch}, was given {indices}")
            vectors = encode_cells(
                fill_batch(frames, params.batch_size), params.levels, encode, mode=params.mode, check_stop=check_stop
            )
            yield vectors[: len(batch)].numpy().reshape(len(batch), cells, dimension)

    keys: list[str] = []
    waiting: list[np.ndarray] = []
    failed = 0
    for batch, found in zip(batches, ranks.gather_in_turn(encode_own(), len(batches)), strict=ranks.is_first):
        failed += len(_non_finite(found))
        if failed > params.max_bad_fraction * len(images.ids):
            position, level = _first_non_finite(found, params.levels)
            raise _too_many_bad(images.ids[batch[position]], level, failed, len(images.ids), params)
        keys += [images.keys[index] for index in batch]
        waiting.append(found)
        if len(keys) >= params.shard_images or batch is batches[-1]:
            store.add(keys, np.concatenate(waiting))
            keys, waiting = [], []


def _fit(
    images: Images,
    shards: list[range],
    dimension: int,
    params: ExtractParams,
    store: FeatureStore,
    check_stop: Callable[[], None],
) -> tuple[list[str], dict[int, Standardiser]]:
    """The images without usable features, and a standardiser per level.

    Sums run over the images in order, read back from the store, so that they do not depend on what was known before.
    """
    moments = {level: Moments(dimension, second=params.pca > 0) for level in params.levels}
    bad: list[str] = []
    for shard in shards:
        check_stop()
        raw = store.load([images.keys[index] for index in shard])  # (n, cells, D)
        failed = set(_non_finite(raw))
        bad += [images.ids[shard[position]] for position in sorted(failed)]
        if len(bad) > params.max_bad_fraction * len(images.ids):
            position, level = _first_non_finite(raw, params.levels)
            raise _too_many_bad(images.ids[shard[position]], level, len(bad), len(images.ids), params)
        used = [position for position, index in enumerate(shard) if images.is_train[index] and position not in failed]
        for level, cells in _level_cells(params.levels):
            moments[level].add(raw[used, cells].reshape(-1, dimension))
    if any(not sums.count for sums in moments.values()):
        raise InputError(
            "features: no usable train image to centre on; add images to the train split and run `dvc repro`"
        )
    return bad, {level: Standardiser.fit(sums, params.pca) for level, sums in moments.items()}


def _non_finite(vectors: np.ndarray) -> list[int]:
    """Positions of the images (n, cells, D) that have any value which is not finite."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=(1, 2))).tolist()


def _first_non_finite(vectors: np.ndarray, levels: Sequence[int]) -> tuple[int, int]:
    position = _non_finite(vectors)[0]
    levels_hit = [level for level, cells in _level_cells(levels) if not np.isfinite(vectors[position, cells]).all()]
    return position, levels_hit[0]


def _too_many_bad(image_id: str, level: int, bad: int, images: int, params: ExtractParams) -> InputError:
    return InputError(
        f"features of {image_id} are not finite at level {level} (source {params.source}); that makes {bad} of "
        f"{images} images, and extract.max_bad_fraction is {params.max_bad_fraction}: set extract.precision: fp32 "
        f"(it is {params.precision}), or train the backbone again if its weights diverged"
    )


def _require_space(
    images: Images, missing: int, dimension: int, params: ExtractParams, out: Path, scratch: Path
) -> None:
    """Stop before any work if the raw vectors and the shards will not fit."""
    cells = sum(level * level for level in params.levels)
    raw = missing * cells * dimension * 4
    final = len(images.ids) * cells * ((params.pca or dimension) * 2 + ROW_BYTES)
    same = out.stat().st_dev == scratch.stat().st_dev
    for folder, needed in [(out, final + raw)] if same else [(out, final), (scratch, raw)]:
        if (free := shutil.disk_usage(folder).free) < needed:
            raise InputError(
                f"{folder}: {needed / 1e6:.1f} MB are needed for the features and {free / 1e6:.1f} MB are free; free "
                "some space (`fs4 clean` removes kept features), or use fewer or coarser extract.levels"
            )
