"""The report: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.matching import UNMATCHED
from pipeline.evaluation.palette import cluster_colours, palette
from pipeline.labels.names import Names
from pipeline.params import ReportParams
from pipeline.report.contact_sheets import Sheet, Survey, draw_sheets, survey_label_maps
from pipeline.report.curves import HEIGHT, WIDTH, draw_charts
from pipeline.report.gallery import draw_gallery
from pipeline.report.inputs import ReportInputs, optional_json, read_curves
from pipeline.report.naming import NameRow, name_rows, paint_names
from pipeline.report.pretext import describe_pretext
from pipeline.report.provenance import (
    collect_params,
    collect_versions,
    flatten,
    label_badges,
    read_sidecars,
    trace_sources,
)
from pipeline.report.pyramid import draw_pyramids, level_table
from pipeline.report.rendering import page_templates
from pipeline.report.scores import class_rows, judge, main_class_of_clusters, order_confusion, score_rows

OPEN_SHEETS = 27  # contact sheets shown at once; further ones are folded
LISTED_FILES = 200  # rejected files named in the page; the table has them all


@dataclass(frozen=True)
class ClusterCard:
    """A cluster as the page shows it; it has a name only where people gave one."""

    sheet: Sheet
    name: str | None
    colour: str
    share: float
    matched: str | None
    mostly: tuple[str, float] | None


def build_report(inputs: ReportInputs, params: ReportParams, names: Names | None = None) -> str:
    """Make the whole report.

    Args:
        inputs: The folders to read; label maps and images are read one at a time.
        params: Title, regions per contact sheet, images with pseudo labels.
        names: Names that people gave the clusters; contact sheets, gallery and tables then show them.

    Returns:
        HTML text. The same inputs give the same text.

    Raises:
        InputError: The folders do not fit together, or an image is missing or altered.
    """
    metrics = inputs.evaluation.json("metrics.json")
    confusion = optional_json(inputs.evaluation, "confusion.json")
    sidecars = read_sidecars(inputs)
    survey = survey_label_maps(
        inputs.label_maps(),
        count=inputs.label_map_count(),
        clusters=metrics["clusters"]["k"],
        regions=params.regions_per_cluster,
    )
    gallery, gallery_size = draw_gallery(inputs.evaluation, paint_names(inputs, names) if names else None)
    named = name_rows(inputs, names) if names else []
    pretrain = inputs.backbone.manifest.get("params", {}).get("pretrain", {})
    context = {
        "title": params.title,
        "badges": label_badges(sidecars, pretrain.get("method")),
        "metrics": metrics,
        "scores": _scores(metrics, confusion),
        "protocol": flatten(optional_json(inputs.evaluation, "protocol.json") or {}),
        "gallery": gallery,
        "gallery_size": gallery_size,
        "legend": _legend(confusion),
        "named": named,
        "name_of_cluster": {cluster: row.entry.name for row in named for cluster in row.entry.clusters},
        "survey": survey,
        "cards": _cards(survey, inputs, confusion, named),
        "open_sheets": OPEN_SHEETS,
        "pyramids": draw_pyramids(inputs, params.pyramid_images),
        "levels": level_table(inputs.pseudo_labels),
        "charts": {
            "Segmenter": draw_charts(read_curves(inputs.segmenter)),
        },
        "pretext": describe_pretext(inputs.backbone),
        "chart_size": (WIDTH, HEIGHT),
        "data": _data(inputs),
        "params": collect_params(inputs, params.model_dump()),
        "versions": collect_versions(inputs),
        "sources": trace_sources(inputs),
        "sidecars": {name: flatten(sidecar) for name, sidecar in sidecars.items() if sidecar},
    }
    return page_templates().get_template("page.html.j2").render(context)


def _hex(colour: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(channel) for channel in colour))


def _scores(metrics: dict[str, Any], confusion: dict[str, Any] | None) -> dict[str, Any] | None:
    """All that needs masks; None without."""
    if "all" not in metrics or confusion is None:
        return None
    per_class, boundary = metrics.get("per_class", {}), metrics.get("boundary")
    return {
        "verdict": judge(metrics),
        "rows": score_rows(metrics),
        "partition": metrics.get("partition"),
        "classes": class_rows(confusion, per_class, boundary["per_class"] if boundary else None),
        "boundary": boundary,
        "confusion": order_confusion(confusion),
    }


def _legend(confusion: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Classes with their colours; none without masks, where clusters have no names."""
    names = confusion["classes"] if confusion else []
    return list(zip(names, map(_hex, palette(len(names))), strict=True))


def _cards(
    survey: Survey, inputs: ReportInputs, confusion: dict[str, Any] | None, named: list[NameRow]
) -> list[ClusterCard]:
    """Clusters by class order, unmatched ones after them by size; without masks all by size; first of all by name."""
    sizes = {entry["cluster"]: entry for entry in inputs.evaluation.json("clusters.json")}
    sheets = draw_sheets(survey, inputs)
    if confusion:
        matches = confusion["class_of_cluster"]
        colours = cluster_colours(matches, len(confusion["classes"]))
        mostly = main_class_of_clusters(confusion)
    else:
        matches = [UNMATCHED] * len(sheets)
        colours, mostly = palette(len(sheets)), [None] * len(sheets)
    given = {cluster: (place, row) for place, row in enumerate(named) for cluster in row.entry.clusters}
    cards = [
        ClusterCard(
            sheet=sheet,
            name=given[sheet.cluster][1].entry.name if named else None,
            colour=given[sheet.cluster][1].entry.colour if named else _hex(colours[sheet.cluster]),
            share=sizes[sheet.cluster]["share"],
            matched=confusion["classes"][matches[sheet.cluster]]
            if confusion and matches[sheet.cluster] != UNMATCHED
            else None,
            mostly=mostly[sheet.cluster],
        )
        for sheet in sheets
    ]

    def place(card: ClusterCard) -> tuple[int, bool, int, float, int]:
        cluster = card.sheet.cluster
        match = matches[cluster]
        return (given[cluster][0] if named else 0, match == UNMATCHED, match, -card.share, cluster)

    return sorted(cards, key=place)


def _data(inputs: ReportInputs) -> dict[str, Any]:
    images = inputs.images
    rejected = [row for row in images.rows if row.verdict != "ok"]
    splits = sorted({row.split for row in images.rows})
    return {
        "frame": images.frame,
        "channels": images.channels,
        "images": len(images.rows),
        "splits": [(split, len(images.select(split)), sum(row.split == split for row in rejected)) for split in splits],
        "rejected": rejected[:LISTED_FILES],
        "rejected_count": len(rejected),
        "leaked": len(images.find_leaked()),
    }
