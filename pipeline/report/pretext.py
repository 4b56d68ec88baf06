"""How the backbone was trained, and what is known of its features without labels, for the report."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report.curves import Chart, draw_charts
from pipeline.report.inputs import optional_json, read_curves
from pipeline.runtime.artifacts import Artifact

# Figures of `pretext.json` that are shown, what they say, and how many decimals they have
_FIGURES = {
    "image_match": ("Image match", "Share of views whose nearest view is of the same image.", 2),
    "place_match": ("Place match", "Share of places whose nearest place in another view is their own.", 2),
    "effective_rank": ("Effective rank", "Directions that the decoder's map uses.", 1),
    "embedding_std": ("Embedding spread", "Near 0 the embeddings of the last epoch had collapsed.", 2),
}


@dataclass(frozen=True)
class PretextRow:
    """A figure as the page shows it."""

    name: str
    value: str
    chance: str
    hint: str


@dataclass(frozen=True)
class PretextSection:
    """What the section shows; rows and charts may be missing."""

    method: str
    rows: list[PretextRow]
    charts: list[Chart]


def describe_pretext(backbone: Artifact) -> PretextSection:
    """Read what stage `pretrain` left.

    Args:
        backbone: The folder of the backbone; one of an older run has no `pretext.json`.
    """
    told = optional_json(backbone, "pretext.json") or {}
    rows = []
    for key, (name, hint, decimals) in _FIGURES.items():
        if key in told:
            chance = told.get(f"{key}_chance")
            shown = "" if chance is None else f"{chance:.{decimals + 1}f}"
            rows.append(PretextRow(name, f"{told[key]:.{decimals}f}", shown, hint))
    method = backbone.manifest.get("params", {}).get("pretrain", {}).get("method", "")
    return PretextSection(method, rows, draw_charts(read_curves(backbone)))
