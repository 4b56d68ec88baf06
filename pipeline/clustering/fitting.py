"""The cells of a pyramid level that a clustering is fitted on, and the fit, in memory or over files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.clustering.file_points import FilePoints
from pipeline.clustering.finished_fits import FinishedRestarts
from pipeline.clustering.kmeans import KMeans, fit_kmeans
from pipeline.clustering.sampling import count_cells, gather_cells, iterate_cells, sample_rows
from pipeline.clustering.sharded import fit_sharded
from pipeline.errors import InputError
from pipeline.features.shards import iterate_level
from pipeline.params import PggParams
from pipeline.runtime.artifacts import Artifact
from pipeline.runtime.distributed import ALONE, Ranks

IN_MEMORY = 256 * 10**6  # bytes of cells; faiss and the start of k-means need twice as much beside
FEWEST_ROWS = 4  # two clusters of two


class Cells(NamedTuple):
    """The train cells of a level to fit on: their numbers among the `available` ones that are not zero."""

    features: Artifact
    train_ids: frozenset[str]
    level: int
    chosen: np.ndarray
    available: int


def choose_cells(features: Artifact, train_ids: frozenset[str], level: int, k: int, params: PggParams) -> Cells:
    """Draw the cells to fit on, the same share of every image.

    Args:
        features: The opened folder `data/features`.
        train_ids: Images whose cells count.
        level: Cells a side.
        k: Clusters asked for; clipped to half the cells.
        params: Group `pgg`.

    Raises:
        InputError: A shard cannot be used, or there are too few cells.
    """
    counts = count_cells(features, train_ids, level)  # zeros have no direction
    available = sum(counts)
    if available < FEWEST_ROWS:
        raise InputError(
            f"{features.path / f'level={level}'}: {available} usable train cells, and clustering needs {FEWEST_ROWS}; "
            f"add images, or leave level {level} out of extract.levels"
        )
    chosen = sample_rows(counts, min(k, available // 2) * params.max_points_per_centroid, params.seed)
    return Cells(features, train_ids, level, chosen, available)


def fit_cells(
    cells: Cells,
    k: int,
    params: PggParams,
    scratch: Path,
    check_stop: Callable[[], None],
    log: logging.Logger,
    ranks: Ranks = ALONE,
) -> KMeans:
    """Spherical k-means in memory, or over files where the cells take more than `IN_MEMORY`.

    Args:
        cells: What to fit on.
        k: Number of clusters K.
        params: Group `pgg`.
        scratch: Folder for finished restarts, or the files and their state, from which an interrupted fit goes on. The
            caller removes it.
        check_stop: Raises to interrupt; called before each restart in memory, and between the Lloyd steps over files.
        log: For one line where files are used.
        ranks: The processes that share the work. They share the first one's scratch folder, which all must see.
    """
    features, train_ids, level, chosen, _ = cells
    dimension = next(iterate_level(features, level)).vectors.shape[2]
    size = len(chosen) * dimension * 4
    scratch = ranks.broadcast(scratch)
    if size <= IN_MEMORY:
        return fit_kmeans(
            gather_cells(features, train_ids, level, chosen),
            k,
            spherical=True,
            iterations=params.iterations,
            restarts=params.restarts,
            seed=params.seed,
            once=FinishedRestarts(scratch, check_stop).once,
            ranks=ranks,
        )
    log.info("level %d: %.0f MB of cells are clustered from files", level, size / 1e6)
    points = FilePoints(scratch, iterate_cells(features, train_ids, level, chosen)) if ranks.is_first else None
    points = ranks.broadcast(points)
    assert points is not None
    return fit_sharded(
        points,
        k,
        iterations=params.iterations,
        restarts=params.restarts,
        seed=params.seed,
        scratch=scratch,
        check_stop=check_stop,
        ranks=ranks,
    )
