"""A match that an earlier evaluation has fixed, such as that of the train split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.classes import ClassList
from pipeline.errors import InputError
from pipeline.evaluation.matching import RULES, UNMATCHED, Assignment, majority
from pipeline.runtime.artifacts import open_artifact


@dataclass(frozen=True)
class EarlierMatch:
    """The classes of clusters by id; what it does not know stays unmatched.

    Attributes:
        rule: The rule that chose them.
        class_of_cluster: The match.
        many_to_one: The match by majority of the same pixels.
    """

    rule: str
    class_of_cluster: Mapping[int, int]
    many_to_one: Mapping[int, int]

    def assign(self, clusters: Sequence[int]) -> tuple[Assignment, Assignment]:
        """The match and that by majority for K clusters."""
        tables = ((self.rule, self.class_of_cluster), ("majority", self.many_to_one))
        first, second = (
            Assignment(rule, tuple(table.get(cluster, UNMATCHED) for cluster in clusters)) for rule, table in tables
        )
        return first, second


def load_match(folder: Path, classes: ClassList) -> EarlierMatch:
    """Read the match of a folder of `fs4 score` or of stage `evaluate`.

    Args:
        folder: The folder.
        classes: The classes that are scored now, which must be those of the folder.

    Raises:
        InputError: The folder is no such result, is damaged, or has other classes.
    """
    artifact = open_artifact(folder)
    if not {"confusion.json", "protocol.json"} <= artifact.manifest["files"].keys():
        raise InputError(f"--match-from: {folder} holds no confusion.json; give what `fs4 score --output` wrote")
    stored = artifact.json("confusion.json")
    if tuple(stored["classes"]) != classes.names:
        raise InputError(
            f"--match-from: {folder} has the classes {', '.join(stored['classes'][:5])}…, and these masks "
            f"{', '.join(classes.names[:5])}…; give a result of the same classes"
        )
    rule = artifact.json("protocol.json")["match_rule"].split(":")[0]
    if rule not in RULES:
        raise InputError(f"--match-from: {folder} was matched by {rule!r}, which is no rule; score it again")
    matched = stored["class_of_cluster"]
    by_majority = majority(np.array(stored["matrix"])).class_of_cluster
    clusters = stored.get("clusters", range(len(matched)))
    return EarlierMatch(rule, dict(zip(clusters, matched, strict=True)), dict(zip(clusters, by_majority, strict=True)))
