"""Pyramid pseudo labels: one spherical k-means per level, fitted once on train cells, and its labels for all cells.

Pyramid-guided grouping (PGG) of Wang et al., "Fully Self-Supervised Learning for Semantic Segmentation", 2022.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from pipeline.clustering.finished_fits import load_fit, save_fit
from pipeline.clustering.fitting import choose_cells, fit_cells
from pipeline.clustering.kmeans import Assignment, KMeans, assign
from pipeline.errors import InputError
from pipeline.features.shards import cell_columns, count_shards, image_ids_of_cells, iterate_level
from pipeline.params import PggParams
from pipeline.runtime.artifacts import Artifact, write_json
from pipeline.runtime.distributed import ALONE, Ranks

ZERO_LABEL = -1  # of a cell whose feature vector is zero and so has no direction

_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("row", pa.int16()),
        ("col", pa.int16()),
        ("label", pa.int32()),
        ("distance", pa.float32()),
        ("margin", pa.float32()),
    ]
)


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo labels of one level.

    Attributes:
        level: Cells a side l.
        k: Number of clusters K_l; labels are below it.
        labels: By image id int32 (l, l), -1 where there is none.
        margins: By image id float32 (l, l), by how much the second centroid's cosine is smaller.
    """

    level: int
    k: int
    labels: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]


def cluster_pyramid(
    features: Artifact,
    train_ids: Collection[str],
    levels: Sequence[int],
    params: PggParams,
    out: Path,
    rows: dict[str, int],
    log: logging.Logger,
    *,
    scratch: Path,
    check_stop: Callable[[], None],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Cluster the features of each level and label all cells of all images.

    Memory does not grow with the number of images: where the cells to fit on are many, they go to files, see
    `fit_cells`.

    Args:
        features: The opened folder `data/features`.
        train_ids: Images whose cells the clusterings are fitted on.
        levels: Cells a side of each level.
        params: Group `pgg`.
        out: Folder to fill with `level=<l>.parquet`, `centroids.safetensors` and `statistics.json`.
        rows: Is given the number of rows of each table.
        log: For one line per level, and one where fewer clusters are used than asked for.
        scratch: Folder for finished fits and the state of a running one, from which an interrupted run goes on; it must
            belong to the same parameters, inputs and code.
        check_stop: Raises to interrupt; called between levels, restarts, and the Lloyd steps over files.
        ranks: The processes that share the restarts or the passes over the points, and the labelling. The first one
            writes, but for the others' restarts, which go to its `scratch` as well, so that all must see it; what the
            others have in theirs and write to `out` is not used.

    Returns:
        What `statistics.json` holds. `sizes` count the cells of all images; `rows` is their sum and `zero_vectors`.

    Raises:
        InputError: A shard cannot be used, a level has too few cells, or `pgg.k` has not one value per level.
    """
    asked = params.k if isinstance(params.k, list) else [params.k] * len(levels)
    if len(asked) != len(levels):
        raise InputError(
            f"{features.path}: has levels {list(levels)}, and pgg.k has {len(asked)} values; run `dvc repro`, "
            "so that the features are made again"
        )
    centroids: dict[str, np.ndarray] = {}
    statistics: dict[str, Any] = {}
    for level, k_asked in zip(levels, asked, strict=True):
        check_stop()
        cells = choose_cells(features, frozenset(train_ids), level, k_asked, params)
        k = min(k_asked, cells.available // 2)
        if k < k_asked:
            log.info("level %d: pgg.k %d clipped to %d, half of its %d train cells", level, k_asked, k, cells.available)
        finished = scratch / f"level={level}.npz"
        fitted = ranks.broadcast(load_fit(finished) if ranks.is_first else None)
        if fitted is None:
            state = scratch / f"level={level}"
            fitted = fit_cells(cells, k, params, state, check_stop, log, ranks)
            save_fit(finished, fitted)
            shutil.rmtree(state, ignore_errors=True)  # points in files are large
        else:
            log.info("level %d: going on from its finished k-means", level)
        if empty := int((fitted.sizes == 0).sum()):
            log.warning("level %d: %d of %d clusters stay empty, equal features", level, empty, k)
        name = f"level={level}.parquet"
        sizes, zeros = _write_labels(features, level, fitted.centroids, out / name, ranks)
        rows[name] = int(sizes.sum()) + zeros
        centroids[f"level={level}"] = fitted.centroids
        statistics[str(level)] = _summary(fitted, k_asked, len(cells.chosen), sizes, zeros)
        log.info(
            "level %d: %d clusters fitted on %d of %d train cells, inertia %.6g, %d started anew, %d cells labelled",
            level,
            k,
            len(cells.chosen),
            cells.available,
            fitted.inertia,
            fitted.reseeded,
            int(sizes.sum()),
        )
    # not `save_file`, whose error for a full disk is no OSError
    (out / "centroids.safetensors").write_bytes(save(centroids))
    write_json(out / "statistics.json", {"levels": statistics})
    return {"levels": statistics}


def read_pseudo_labels(pseudo_labels: Artifact, chosen: Sequence[int] = ()) -> dict[int, PseudoLabels]:
    """Read the pseudo labels of several levels.

    Args:
        pseudo_labels: The opened folder `data/pseudo_labels`.
        chosen: Cells a side of the levels; none for all.

    Returns:
        By cells a side, ascending.

    Raises:
        InputError: See `read_pseudo_level`.
    """
    levels = sorted(chosen or map(int, pseudo_labels.json("statistics.json")["levels"]))
    return {level: read_pseudo_level(pseudo_labels, level) for level in levels}


def read_pseudo_level(pseudo_labels: Artifact, level: int) -> PseudoLabels:
    """Read the pseudo labels of one level.

    Args:
        pseudo_labels: The opened folder `data/pseudo_labels`.
        level: Cells a side.

    Returns:
        The labels and margins of all images.

    Raises:
        InputError: The table is missing, damaged, incomplete, or has labels that no cluster has.
    """
    path = pseudo_labels.file(f"level={level}.parquet")
    try:
        k = int(pseudo_labels.json("statistics.json")["levels"][str(level)]["k_used"])
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if not table.schema.equals(_SCHEMA, check_metadata=False):
            raise ValueError(f"columns {table.schema.names} instead of {_SCHEMA.names}, or of other types")
        image_ids = image_ids_of_cells(table, level)
        labels = table["label"].to_numpy().reshape(-1, level, level)
        margins = table["margin"].to_numpy().reshape(-1, level, level)
        if labels.size and not ZERO_LABEL <= labels.min() <= labels.max() < k:
            raise ValueError(f"labels from {labels.min()} to {labels.max()} for {k} clusters")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not usable pseudo labels ({str(error).splitlines()[0][:200]}); rebuild it with "
            "`dvc repro --force --single-item cluster`"
        ) from None
    return PseudoLabels(level, k, dict(zip(image_ids, labels, strict=True)), dict(zip(image_ids, margins, strict=True)))


def _write_labels(
    features: Artifact, level: int, centroids: np.ndarray, path: Path, ranks: Ranks
) -> tuple[np.ndarray, int]:
    """Label all cells, a shard at a time; returns cells per cluster and the number of zero vectors."""

    def label_own() -> Iterator[tuple[list[str], Assignment, np.ndarray]]:
        for shard in iterate_level(features, level, ranks):
            vectors = shard.vectors.reshape(-1, shard.vectors.shape[2])
            zero = np.asarray(~vectors.any(axis=1))
            yield shard.image_ids, assign(vectors, centroids, spherical=True), zero

    sizes = np.zeros(len(centroids), np.int64)
    zeros = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for image_ids, (labels, distance, margin), zero in ranks.gather_in_turn(
            label_own(), count_shards(features, level)
        ):
            labels[zero], distance[zero], margin[zero] = ZERO_LABEL, 0.0, 0.0
            sizes += np.bincount(labels[~zero], minlength=len(centroids))
            zeros += int(zero.sum())
            columns = [*cell_columns(image_ids, level), *map(pa.array, (labels, distance, margin))]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
    return sizes, zeros


def _summary(fitted: KMeans, k_asked: int, rows_fitted: int, sizes: np.ndarray, zeros: int) -> dict[str, Any]:
    return {
        "k_asked": k_asked,
        "k_used": len(fitted.centroids),
        "sizes": sizes.tolist(),
        "inertia": fitted.inertia,
        "restart_inertia": list(fitted.restart_inertia),
        "rows": int(sizes.sum()) + zeros,
        "rows_fitted": rows_fitted,
        "reseeded": fitted.reseeded,
        "zero_vectors": zeros,
    }
