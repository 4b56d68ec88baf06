"""What `fs4 score-seeds` does: mean and standard deviation over scored results of one method, one for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.score_table import spread_table
from pipeline.runtime.artifacts import open_artifact

_FILES = {"metrics.json", "protocol.json", "confusion.json"}
# Parts of `protocol.json` that follow from the predictions or from the seed of a floor, and so differ between seeds.
_OF_A_SEED = ("absent_classes", "colour_position_kmeans", "bootstrap")
_LONGEST = 100  # characters of a value in a message
_FIXED_BEFORE = ", fixed before"  # each seed has a match of its own


@dataclass(frozen=True)
class _Result:
    folder: Path
    metrics: dict[str, Any]
    classes: list[str]
    fixed: dict[str, Any]  # what must agree between the seeds


def join_seeds(folders: Sequence[Path]) -> str:
    """Join the results of several seeds into one table.

    Args:
        folders: What `fs4 score --output` wrote, two or more; nothing in them says which seed they are of.

    Returns:
        The table, with means and sample standard deviations in percent.

    Raises:
        ParamsError: There are fewer than two folders, or one is given twice.
        InputError: A folder is no such result or is damaged, or two differ in classes, masks or protocol.
    """
    if len(folders) < 2:
        raise ParamsError(f"score-seeds: {len(folders)} result was given; give those of two seeds or more")
    places = [folder.resolve() for folder in folders]
    if repeated := next(
        (folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None
    ):
        raise ParamsError(f"score-seeds: {repeated} is given twice; give the result of each seed once")
    first, *others = results = [_read(folder) for folder in folders]
    for other in others:
        _check_alike(first, other)
    names = [str(result.folder) for result in results]
    return spread_table([result.metrics for result in results], names, first.classes, first.fixed["match_rule"])


def _read(folder: Path) -> _Result:
    artifact = open_artifact(folder)
    if missing := sorted(_FILES - artifact.manifest["files"].keys()):
        raise InputError(f"{folder}: holds no {missing[0]}; give what `fs4 score --output` wrote")
    metrics, protocol, confusion = (artifact.json(f"{name}.json") for name in ("metrics", "protocol", "confusion"))
    fixed = {key: value for key, value in protocol.items() if key not in _OF_A_SEED}
    if fixed.get("matched_on", "").endswith(_FIXED_BEFORE):
        fixed["matched_on"] = f"the pairs of an earlier result{_FIXED_BEFORE}"
    fixed["classes"] = ", ".join(confusion["classes"])
    fixed["images"] = metrics["protocol"]["images"]
    # of the masks, whatever was predicted
    fixed["pixels by class"] = ", ".join(map(str, np.sum(confusion["matrix"], axis=1).tolist()))
    return _Result(folder, metrics, confusion["classes"], fixed)


def _check_alike(first: _Result, other: _Result) -> None:
    for key in sorted(first.fixed.keys() | other.fixed.keys()):
        one, two = (result.fixed.get(key) for result in (first, other))
        if one != two:
            raise InputError(
                f"{other.folder}: {key.replace('_', ' ')} is {_shown(two)}, but {_shown(one)} in {first.folder}; score "
                "all seeds alike, against the same masks"
            )


def _shown(value: Any) -> str:
    if value is None:
        return "not recorded"
    text = str(value)
    return f'"{text if len(text) <= _LONGEST else text[:_LONGEST] + "…"}"'
