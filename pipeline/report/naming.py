"""Names that people gave the clusters, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.palette import colourise
from pipeline.labels.legend import LegendEntry, list_legend, name_colours, scored_classes
from pipeline.labels.names import Names
from pipeline.report.gallery import shown_images
from pipeline.report.inputs import ReportInputs


@dataclass(frozen=True)
class NameRow:
    """One name: its entry of the legend, and its share of all pixels in percent."""

    entry: LegendEntry
    share: float


def name_rows(inputs: ReportInputs, names: Names) -> list[NameRow]:
    """The names, the largest first."""
    shares = {entry["cluster"]: entry["share"] for entry in inputs.evaluation.json("clusters.json")}
    rows = [
        NameRow(entry, sum(shares[cluster] for cluster in entry.clusters))
        for entry in list_legend(names, scored_classes(inputs.evaluation))
    ]
    return sorted(rows, key=lambda row: (-row.share, row.entry.id))


def paint_names(inputs: ReportInputs, names: Names) -> dict[str, NDArray[np.uint8]]:
    """Label maps of the gallery's images in the colours of the names, uint8 (h, w, 3) by image id."""
    colours = name_colours(names, scored_classes(inputs.evaluation))[list(names.merged_ids)]  # (K, 3)
    maps = inputs.label_maps(only=shown_images(inputs.evaluation))
    return {label_map.image_id: colourise(label_map.decode(), colours) for label_map in maps}
