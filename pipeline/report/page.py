"""The report: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.matching import UNMATCHED
from pipeline.evaluation.palette import cluster_colours, palette
from pipeline.params import ReportParams
from pipeline.report.contact_sheets import Sheet, Survey, draw_sheets, survey_label_maps
from pipeline.report.curves import HEIGHT, WIDTH, draw_charts
from pipeline.report.gallery import draw_gallery
from pipeline.report.inputs import ReportInputs, optional_json, read_curves
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
    """A cluster as the page shows it."""

    sheet: Sheet
    colour: str
    share: float
    matched: str | None
    mostly: tuple[str, float] | None


def build_report(inputs: ReportInputs, params: ReportParams) -> str:
    """Make the whole report.

    Args:
        inputs: The folders to read; label maps and images are read one at a time.
        params: Title, regions per contact sheet, images with pseudo labels.

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
    gallery, gallery_size = draw_gallery(inputs.evaluation)
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
        "survey": survey,
        "cards": _cards(survey, inputs, confusion),
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
    per_class = metrics.get("per_class", {})
    return {
        "verdict": judge(metrics),
        "rows": score_rows(metrics),
        "partition": metrics.get("partition"),
        "classes": class_rows(confusion, per_class),
        "confusion": order_confusion(confusion),
    }


def _legend(confusion: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Classes with their colours; none without masks, where clusters have no names."""
    names = confusion["classes"] if confusion else []
    return list(zip(names, map(_hex, palette(len(names))), strict=True))


def _cards(survey: Survey, inputs: ReportInputs, confusion: dict[str, Any] | None) -> list[ClusterCard]:
    """Clusters by class order, unmatched ones after them by size; without masks all by size."""
    sizes = {entry["cluster"]: entry for entry in inputs.evaluation.json("clusters.json")}
    sheets = draw_sheets(survey, inputs)
    if confusion:
        matches = confusion["class_of_cluster"]
        colours = cluster_colours(matches, len(confusion["classes"]))
        mostly = main_class_of_clusters(confusion)
    else:
        matches = [UNMATCHED] * len(sheets)
        colours, mostly = palette(len(sheets)), [None] * len(sheets)
    cards = [
        ClusterCard(
            sheet=sheet,
            colour=_hex(colours[sheet.cluster]),
            share=sizes[sheet.cluster]["share"],
            matched=confusion["classes"][matches[sheet.cluster]]
            if confusion and matches[sheet.cluster] != UNMATCHED
            else None,
            mostly=mostly[sheet.cluster],
        )
        for sheet in sheets
    ]

    def place(card: ClusterCard) -> tuple[bool, int, float, int]:
        match = matches[card.sheet.cluster]
        return (match == UNMATCHED, match, -card.share, card.sheet.cluster)

    return sorted(cards, key=place)


def _data(inputs: ReportInputs) -> dict[str, Any]:
    images = inputs.images
    rejected = [row for row in images.rows if row.verdict != "ok"]
    splits = sorted({row.split for row in images.rows})
    return {
        "frame": images.frame,
        "images": len(images.rows),
        "splits": [(split, len(images.select(split)), sum(row.split == split for row in rejected)) for split in splits],
        "rejected": rejected[:LISTED_FILES],
        "rejected_count": len(rejected),
        "leaked": len(images.find_leaked()),
    }
