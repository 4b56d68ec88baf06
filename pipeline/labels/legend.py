"""Names with their colours: the same in label maps, in their legend and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.palette import palette
from pipeline.labels.names import Names
from pipeline.runtime.artifacts import Artifact, write_json


@dataclass(frozen=True)
class LegendEntry:
    """One name.

    Attributes:
        id: Its value in renamed label maps.
        name: The name.
        colour: As #rrggbb.
        clusters: The clusters that have it, ascending.
    """

    id: int
    name: str
    colour: str
    clusters: tuple[int, ...]


def name_colours(names: Names, classes: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Colours of the names, uint8 (n, 3), in the order of `names.distinct`.

    Args:
        names: The names.
        classes: Classes of the masks, if there are any; a name that is one of them has its colour.
    """
    places, further = [], len(classes)
    for name in names.distinct:
        known = name in classes
        places.append(classes.index(name) if known else further)
        further += not known
    return palette(further)[places]


def list_legend(names: Names, classes: Sequence[str] = ()) -> list[LegendEntry]:
    """The names with their ids, colours and clusters, by id; arguments as of `name_colours`."""
    colours = name_colours(names, classes)
    return [
        LegendEntry(
            place,
            name,
            "#{:02x}{:02x}{:02x}".format(*colours[place].tolist()),
            tuple(cluster for cluster, other in enumerate(names.of_cluster) if other == name),
        )
        for place, name in enumerate(names.distinct)
    ]


def write_legend(folder: Path, legend: Sequence[LegendEntry]) -> None:
    """Write `legend.json`, and `classes.json` as masks have it beside them, for renamed label maps in a folder."""
    write_json(folder / "legend.json", [{**asdict(entry), "clusters": list(entry.clusters)} for entry in legend])
    classes = [{"id": entry.id, "name": entry.name} for entry in legend]
    write_json(folder / "classes.json", {"classes": classes})


def scored_classes(evaluation: Artifact) -> list[str]:
    """Names of the classes that an evaluation scored against; none without masks."""
    if "confusion.json" not in evaluation.manifest["files"]:
        return []
    classes: list[str] = evaluation.json("confusion.json")["classes"]
    return classes
