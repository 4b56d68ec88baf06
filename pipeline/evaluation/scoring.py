"""What `fs4 score` does: scores label maps of any method by the same functions as stage `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.classes import default_classes, load_classes, parse_classes
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.boundary import BoundaryCounts
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.earlier_match import EarlierMatch, load_match
from pipeline.evaluation.figures import check_finite, confusion_file, describe_frame, rule_notes, split_figures
from pipeline.evaluation.matching import Assignment, check_rule, hungarian, majority, match
from pipeline.evaluation.metrics import cluster_statistics, score
from pipeline.evaluation.official import find_protocol, list_masks
from pipeline.evaluation.pair_reading import PairReader
from pipeline.evaluation.pairs import Pair, pair_folders, pair_official, read_labels
from pipeline.evaluation.score_table import score_table
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.runtime.locks import hold

_IDS = 65_536  # of a 16-bit PNG
_NARROW_IDS = 256
_COMMAND = "fs4 score"


@dataclass(frozen=True)
class OfficialRequest:
    """What is scored of a download.

    Attributes:
        protocol: Name of the protocol; "" for none.
        split: A split, several joined by "+", or another name that publications have for them.
        ids: List of the names to score; None: all.
        full: Whether masks are scored whole and as they are stored, without the protocol's part and resolution.
    """

    protocol: str
    split: str = "val"
    ids: Path | None = None
    full: bool = False

    def __post_init__(self) -> None:
        """Refuse what only a protocol gives a meaning."""
        if not self.protocol and (self.split != "val" or self.ids or self.full):
            raise ParamsError("--split, --ids and --full belong to a protocol; give --protocol, or leave them out")


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
    official: OfficialRequest = OfficialRequest(""),
    rule: str,
    match_from: Path | None = None,
    output: Path | None,
    boundary: bool,
    resize: bool,
    seed: int,
) -> str:
    """Score a folder of label maps, write the result if asked to, and return it as a table.

    Args:
        predictions: PNG files of cluster ids, of any number of clusters; every id is a cluster, 255 too.
        truth: PNG files of masks, with the same relative paths; with `official`, the download.
        classes_file: a `classes.json`; None: the ids that occur, with 255 for unlabelled, or the protocol's classes.
        official: a published protocol, which knows names, places and meaning of the masks; by default none.
        rule: name of the matching rule.
        match_from: folder of an earlier result, whose match is used with its rule; None: the scored pairs are matched.
        output: folder to write; None for none.
        boundary: whether boundary F1 is computed, which reads everything a second time.
        resize: whether predictions of another size than their mask are resized.
        seed: determines the resampling of images.

    Returns:
        The table.

    Raises:
        ParamsError: The rule, protocol or split is unknown, or there are two class lists or rules.
        InputError: A file or an earlier result does not fit, nothing is labelled, or `output` holds something else.
    """
    check_rule(rule)
    if official.protocol and classes_file:
        raise ParamsError(f"--classes: protocol {official.protocol} has its own classes; give one of the two")
    if match_from and rule != "hungarian":
        raise ParamsError(f"--match: {rule} was given, but --match-from brings its own rule; leave one out")
    if output is not None:
        output = output.resolve()
        _check_output(output)
    if official.protocol:
        pairs, reader, notes = _open_official(predictions, truth, official, resize=resize)
    else:
        pairs = pair_folders(predictions, truth)
        classes = load_classes(classes_file) if classes_file else default_classes(_values(pairs))
        reader, notes = PairReader(classes, resize=resize), {}
    earlier = load_match(match_from, reader.classes) if match_from else None
    if earlier:
        notes["matched_on"] = f"the pairs of {match_from}, fixed before"
    result = score_pairs(pairs, reader, rule=rule, earlier=earlier, boundary=boundary, seed=seed, notes=notes)
    if output is not None:
        with hold(output.with_name(f".{output.name}.lock"), str(output), 0.0), create_artifact(output) as writer:
            writer.notes["command"] = _COMMAND
            write_json(writer.path / "metrics.json", result.metrics)
            write_json(writer.path / "protocol.json", result.protocol)
            write_json(writer.path / "confusion.json", result.confusion)
    return score_table(result.metrics, result.confusion["classes"], earlier.rule if earlier else rule)


def score_pairs(
    pairs: Sequence[Pair],
    reader: PairReader,
    *,
    rule: str,
    earlier: EarlierMatch | None,
    boundary: bool,
    seed: int,
    notes: dict[str, str],
) -> Result:
    """Score pairs of label maps and masks over all of them together.

    Args:
        pairs: the files.
        reader: knows what they hold.
        rule: as for `score_folders`, likewise `boundary` and `seed`.
        earlier: a match that was fixed before; None: the pairs are matched by `rule`.
        boundary: see `rule`.
        seed: see `rule`.
        notes: what `protocol.json` says besides.
    """
    classes = reader.classes
    images, pixels = ImageCounts(len(classes.names)), np.zeros(_IDS, np.int64)
    for pair in pairs:
        mask, labels = reader.read(pair)
        ids, local = _compact(labels)
        sizes = {"classes": len(classes.names), "k": len(ids), "ignore_index": classes.ignore_index}
        images.add(confusion_matrix(mask, local, **sizes), ids, image=str(pair.mask))
        pixels += np.bincount(labels.ravel(), minlength=_IDS)
    resized = reader.resized
    clusters = np.flatnonzero(pixels).tolist()
    matrix = images.total(clusters)
    assignment, many_to_one = earlier.assign(clusters) if earlier else (match(matrix, rule), majority(matrix))
    metrics = split_figures(
        images, clusters, assignment=assignment, many_to_one=many_to_one, classes=classes, seed=seed
    )
    everywhere = matrix.sum(axis=1, keepdims=True)  # one cluster for all pixels
    floor = score(hungarian(everywhere).apply(everywhere), None)["all"]
    metrics["floors"] = {"majority_class": {key: floor[key] for key in ("miou", "pixel_accuracy")}}
    metrics["clusters"] = cluster_statistics(pixels[clusters])
    outlines = _count_boundaries(pairs, reader, assignment, clusters) if boundary else None
    if outlines:
        metrics["boundary"] = outlines.figures(classes.names)
    check_finite(metrics)
    frame = describe_frame(reader.frame) if reader.frame else "the masks as they are stored"
    protocol = {
        **rule_notes(matrix, assignment, classes, metrics),
        "split": "all pairs",
        "matched_on": "the scored pairs",
        "checkpoint_rule": "not known: the predictions come from elsewhere",
        "frame": f"{frame}; {resized} of {len(pairs)} predictions resized by nearest",
        "labels": "not known: the predictions come from elsewhere",
        **notes,
    }
    if outlines:
        protocol["boundary"] = outlines.describe()
    confusion = confusion_file(matrix, assignment, classes) | {"clusters": clusters}
    return Result(metrics, protocol, confusion)


def _open_official(
    predictions: Path, truth: Path, asked: OfficialRequest, *, resize: bool
) -> tuple[list[Pair], PairReader, dict[str, str]]:
    protocol, official = find_protocol(asked.protocol)
    masks = list_masks(truth, official, asked.split, asked.ids, cut=not asked.full)
    classes = parse_classes(protocol.classes_text(), protocol.name)
    splits = "+".join(dict.fromkeys(mask.split for mask in masks))
    notes = {"protocol": protocol.name, "split": f"{splits}, {len({mask.path for mask in masks})} masks"}
    if asked.ids:
        notes["split"] += f" of {asked.ids.name}"
    if official.note:
        notes["protocol"] += f"; {official.note}"
    frame = None if asked.full else official.frame
    return pair_official(predictions, masks, official), PairReader(classes, frame, resize), notes


def _values(pairs: Sequence[Pair]) -> set[int]:
    values: set[int] = set()
    for pair in pairs:
        values.update(np.unique(read_labels(pair.mask)).tolist())
    return values


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the columns, and the column of every pixel (h, w)."""
    if labels.dtype == np.uint8:  # as they are: the fast path of the confusion matrix
        return np.arange(_NARROW_IDS), labels
    ids, local = np.unique(labels, return_inverse=True)
    return ids, local.reshape(labels.shape)


def _count_boundaries(
    pairs: Sequence[Pair], reader: PairReader, assignment: Assignment, clusters: Sequence[int]
) -> BoundaryCounts:
    void = len(reader.classes.names)
    class_of_id = np.full(_IDS, void)
    class_of_id[clusters] = assignment.lookup_table(void)
    counts = BoundaryCounts(void)
    for pair in pairs:
        mask, labels = reader.read(pair)
        counts.add(mask, class_of_id[labels], reader.classes.ignore_index)
    return counts


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
