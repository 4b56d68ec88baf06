"""Names of clusters in a file for people: written from the statistics of an evaluation, edited, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, ParamsError
from pipeline.runtime.artifacts import MANIFEST, Artifact, replace_file
from pipeline.runtime.digests import file_digest
from pipeline.yaml_reader import read_yaml

KEYS = ("segmentation", "names")
LONGEST = 100  # characters of a name
DIGITS = 16  # of the digest


@dataclass(frozen=True)
class Names:
    """The names of one segmentation's clusters.

    Attributes:
        segmentation: Which training they belong to.
        of_cluster: The name of every cluster 0..K-1; clusters of one name are one class.
    """

    segmentation: str
    of_cluster: tuple[str, ...]

    @property
    def distinct(self) -> tuple[str, ...]:
        """Every name once, in the order of the first cluster that has it."""
        return tuple(dict.fromkeys(self.of_cluster))

    @property
    def merged_ids(self) -> tuple[int, ...]:
        """The id of every cluster in a renamed label map: the place of its name in `distinct`."""
        places = {name: place for place, name in enumerate(self.distinct)}
        return tuple(places[name] for name in self.of_cluster)


def segmentation_of(evaluation: Artifact) -> str:
    """What tells one training's clusters from another's: the start of the digest of its segmenter."""
    digest: str = evaluation.note("inputs", "data/segmenter")
    return digest[:DIGITS]


def segmentation_by(segmenter: Artifact) -> str:
    """What `segmentation_of` says of an evaluation of this segmenter."""
    return file_digest(segmenter.path / MANIFEST)[:DIGITS]


def write_names(path: Path, evaluation: Artifact, *, force: bool) -> int:
    """Write a names file to be edited, the largest cluster first; its share and matched class stand as comments.

    Args:
        path: The file.
        evaluation: The folder of stage `evaluate`.
        force: Whether an existing file is written over.

    Returns:
        Number of clusters K.

    Raises:
        InputError: The file exists.
    """
    if path.exists() and not force:
        raise InputError(f"{path}: exists, and may hold names that you gave; choose another --file, or give --force")
    clusters = sorted(evaluation.json("clusters.json"), key=lambda entry: (-entry["pixels"], entry["cluster"]))
    lines = [
        "# Names of the clusters, to be edited; clusters with the same name become one class. What each cluster looks",
        "# like is shown by the contact sheets of data/report/index.html. Then:",
        "#   fs4 name --check FILE",
        "#   fs4 report --names FILE",
        "#   fs4 name --apply FILE --output FOLDER",
        "# The training that these clusters belong to; another one has other clusters:",
        f'segmentation: "{segmentation_of(evaluation)}"',
        "names:",
    ]
    lines += [f'  {entry["cluster"]}: "cluster {entry["cluster"]}"  # {_describe(entry)}' for entry in clusters]
    replace_file(path, ("\n".join(lines) + "\n").encode())
    return len(clusters)


def read_names(path: Path, evaluation: Artifact) -> Names:
    """Read a names file and check it against the evaluation that it is for; see `load_names`."""
    return load_names(path, len(evaluation.json("clusters.json")), segmentation_of(evaluation))


def load_names(path: Path, k: int, segmentation: str | None = None) -> Names:
    """Read a names file.

    Args:
        path: The file.
        k: Number of clusters K.
        segmentation: Which training the clusters are of, by `segmentation_of` or `segmentation_by`; None: any.

    Raises:
        ParamsError: The file is missing, no YAML, of another training, or does not name every cluster once.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != set(KEYS) or not isinstance(content["names"], dict):
        raise ParamsError(f"{path}: expected the keys {' and '.join(KEYS)}; write the file anew with `fs4 name`")
    found = content["segmentation"]
    if not isinstance(found, str) or segmentation not in (None, found):
        raise ParamsError(
            f"{path}: names the clusters of segmentation {found}, but this is segmentation {segmentation}, whose "
            "clusters are others; go back to that run, or write a new file with `fs4 name`"
        )
    problems = _find_problems(content["names"], k)
    if problems:
        raise ParamsError("\n  ".join([f"{path}: {len(problems)} problems", *problems]))
    names = {cluster: name.strip() for cluster, name in content["names"].items()}
    return Names(found, tuple(names[cluster] for cluster in range(k)))


def _find_problems(names: Mapping[Any, Any], k: int) -> list[str]:
    missing: Sequence[int] = [cluster for cluster in range(k) if cluster not in names]
    problems = [f"names.{cluster}: missing; give every cluster of 0..{k - 1} a name" for cluster in missing]
    for cluster, name in names.items():
        if not isinstance(cluster, int) or isinstance(cluster, bool) or not 0 <= cluster < k:
            problems.append(f"names.{cluster}: no such cluster; they are 0..{k - 1}")
        elif not isinstance(name, str) or not name.strip():
            problems.append(f"names.{cluster}: {name!r} is no text; write a name, in quotes where it is a number")
        elif len(name) > LONGEST or not name.isprintable():
            problems.append(f"names.{cluster}: {name[:LONGEST]!r} must be one line of at most {LONGEST} characters")
    return problems


def _describe(entry: Mapping[str, Any]) -> str:
    matched = entry.get("class")
    # as JSON, so that a class name with a line break stays inside the comment
    suggestion = f"; matched with {json.dumps(matched, ensure_ascii=False)}" if matched else ""
    return f"{entry['share']:.1f} % of the pixels{suggestion}"
