"""What `fs4 score` does: scores label maps of any method by the same functions as stage `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.classes import ClassList, default_classes, load_classes
from pipeline.errors import InputError
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.boundary import TOLERANCE, BoundaryCounts
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.figures import check_finite, confusion_file, rule_notes, split_figures
from pipeline.evaluation.matching import Assignment, check_rule, hungarian, majority, match
from pipeline.evaluation.metrics import cluster_statistics, score
from pipeline.evaluation.pairs import Pair, fit_size, pair_folders, read_labels
from pipeline.evaluation.score_table import score_table
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.runtime.locks import hold

_IDS = 65_536  # of a 16-bit PNG
_NARROW_IDS = 256
_IDS_NAMED = 10
_COMMAND = "fs4 score"


@dataclass(frozen=True)
class Result:
    """A scored folder: contents of `metrics.json`, `protocol.json` and `confusion.json`."""

    metrics: dict[str, Any]
    protocol: dict[str, str]
    confusion: dict[str, Any]


def score_folders(
    predictions: Path,
    truth: Path,
    *,
    classes_file: Path | None,
    rule: str,
    output: Path | None,
    boundary: bool,
    resize: bool,
    seed: int,
) -> str:
    """Score a folder of label maps, write the result if asked to, and return it as a table.

    Args:
        predictions: PNG files of cluster ids, of any number of clusters; every id is a cluster, 255 too.
        truth: PNG files of class ids, with the same relative paths.
        classes_file: a `classes.json`; None: the ids that occur, with 255 for unlabelled.
        rule: name of the matching rule.
        output: folder to write; None for none.
        boundary: whether boundary F1 is computed, which reads everything a second time.
        resize: whether predictions of another size than their mask are resized.
        seed: determines the resampling of images.

    Returns:
        The table.

    Raises:
        ParamsError: The rule is unknown.
        InputError: A file does not fit, nothing is labelled, or `output` holds something else.
    """
    check_rule(rule)
    if output is not None:
        output = output.resolve()
        _check_output(output)
    result = score_pairs(
        pair_folders(predictions, truth), classes_file, rule=rule, boundary=boundary, resize=resize, seed=seed
    )
    if output is not None:
        with hold(output.with_name(f".{output.name}.lock"), str(output), 0.0), create_artifact(output) as writer:
            writer.notes["command"] = _COMMAND
            write_json(writer.path / "metrics.json", result.metrics)
            write_json(writer.path / "protocol.json", result.protocol)
            write_json(writer.path / "confusion.json", result.confusion)
    return score_table(result.metrics, result.confusion["classes"], rule)


def score_pairs(
    pairs: Sequence[Pair], classes_file: Path | None, *, rule: str, boundary: bool, resize: bool, seed: int
) -> Result:
    """Score pairs of label maps and masks over all of them together; arguments as for `score_folders`."""
    classes = load_classes(classes_file) if classes_file else default_classes(_values(pairs))
    images, pixels, resized = ImageCounts(len(classes.names)), np.zeros(_IDS, np.int64), 0
    for pair in pairs:
        mask = _read_mask(pair.mask, classes)
        stored = read_labels(pair.prediction)
        labels = fit_size(stored, mask, pair, resize=resize)
        resized += labels is not stored
        ids, local = _compact(labels)
        sizes = {"classes": len(classes.names), "k": len(ids), "ignore_index": classes.ignore_index}
        images.add(confusion_matrix(mask, local, **sizes), ids)
        pixels += np.bincount(labels.ravel(), minlength=_IDS)
    clusters = np.flatnonzero(pixels).tolist()
    matrix = images.total(clusters)
    assignment = match(matrix, rule)
    metrics = split_figures(
        images, clusters, assignment=assignment, many_to_one=majority(matrix), classes=classes, seed=seed
    )
    everywhere = matrix.sum(axis=1, keepdims=True)  # one cluster for all pixels
    floor = score(hungarian(everywhere).apply(everywhere), None)["all"]
    metrics["floors"] = {"majority_class": {key: floor[key] for key in ("miou", "pixel_accuracy")}}
    metrics["clusters"] = cluster_statistics(pixels[clusters])
    if boundary:
        metrics["boundary"] = _boundary(pairs, classes, assignment, clusters, resize=resize)
    check_finite(metrics)
    protocol = {
        **rule_notes(matrix, assignment, classes),
        "split": "all pairs",
        "matched_on": "the scored pairs",
        "checkpoint_rule": "not known: the predictions come from elsewhere",
        "frame": f"the masks as they are stored; {resized} of {len(pairs)} predictions resized to them by nearest",
        "labels": "not known: the predictions come from elsewhere",
    }
    if boundary:
        protocol["boundary"] = f"tolerance {100 * TOLERANCE:g} % of each image's diagonal; sums over all images"
    confusion = confusion_file(matrix, assignment, classes) | {"clusters": clusters}
    return Result(metrics, protocol, confusion)


def _values(pairs: Sequence[Pair]) -> set[int]:
    values: set[int] = set()
    for pair in pairs:
        values.update(np.unique(read_labels(pair.mask)).tolist())
    return values


def _read_mask(path: Path, classes: ClassList) -> np.ndarray:
    """Class ids and `ignore_index`, uint8 (h, w)."""
    mask = read_labels(path)
    ids = np.flatnonzero(np.bincount(mask.ravel()))
    unknown = ids[(ids >= len(classes.names)) & (ids != classes.ignore_index)].tolist()
    if unknown:
        named = ", ".join(map(str, unknown[:_IDS_NAMED])) + (" and more" if len(unknown) > _IDS_NAMED else "")
        raise InputError(
            f"{path}: ids {named} are not among the {len(classes.names)} classes, and ignore_index is "
            f"{classes.ignore_index}; add them to the class list, or correct the mask"
        )
    return mask.astype(np.uint8)


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the columns, and the column of every pixel (h, w)."""
    if labels.dtype == np.uint8:  # as they are: the fast path of the confusion matrix
        return np.arange(_NARROW_IDS), labels
    ids, local = np.unique(labels, return_inverse=True)
    return ids, local.reshape(labels.shape)


def _boundary(
    pairs: Sequence[Pair], classes: ClassList, assignment: Assignment, clusters: Sequence[int], *, resize: bool
) -> dict[str, Any]:
    void = len(classes.names)
    class_of_id = np.full(_IDS, void)
    class_of_id[clusters] = assignment.lookup_table(void)
    counts = BoundaryCounts(void)
    for mask, labels in _read_again(pairs, classes, resize=resize):
        counts.add(mask, class_of_id[labels], classes.ignore_index)
    found = {name: float(f1) for name, f1 in zip(classes.names, counts.f1(), strict=True) if np.isfinite(f1)}
    group: dict[str, Any] = {"tolerance": TOLERANCE, "per_class": found}
    if found:
        group["f1"] = float(np.mean(list(found.values())))
    return group


def _read_again(pairs: Sequence[Pair], classes: ClassList, *, resize: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for pair in pairs:
        mask = _read_mask(pair.mask, classes)
        yield mask, fit_size(read_labels(pair.prediction), mask, pair, resize=resize)


def _check_output(output: Path) -> None:
    """A folder is replaced as a whole, so it must be an earlier result."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        known = open_artifact(output).manifest.get("command") == _COMMAND
    except InputError:
        known = False
    if not known:
        raise InputError(
            f"--output: {output} holds something else than an earlier result of `{_COMMAND}`; name another"
        )
