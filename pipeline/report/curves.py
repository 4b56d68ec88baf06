"""Training curves as shapes: the template draws them as SVG in the colours of the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 110  # units of the drawing; the page scales it

# What a known column says; other columns are shown under their own name.
_EXPLAINED = {
    "loss": "Total loss; it should fall.",
    "pixel_loss": "Pixels against the prototypes of their cluster.",
    "pgg_loss": "Pyramid pseudo labels, all levels together.",
    "global_loss": "Contrast of whole images in two views.",
    "dense_loss": "Contrast of matched cells in two views.",
    "pgg_top1": "Share of cells whose pseudo label is predicted, by level.",
    "pgg_nearest": "Share of cells whose nearest cell in the batch has the same pseudo label, by level.",
    "pgg_changed": "Share of cells that got another pseudo label when the labels were made anew, by level.",
    "round": "Which of the bootstrap rounds an epoch belongs to.",
    "clusters_used": "Clusters with at least one pixel; a fall warns of a collapse.",
    "largest_share": "Share of the largest cluster; a rise warns of a collapse.",
    "entropy": "Evenness of the clusters, 1 when all are equally large.",
    "nmi": "Agreement with the assignment of the epoch before; it should settle.",
    "effective_rank": "Dimensions that the embedding uses; a fall warns of a collapse.",
    "embedding_std": "Spread of the unit embeddings; near 0 they have collapsed.",
    "method_loss": "The pretext method alone.",
    "decoder_loss": "The decoder, which learns beside the method.",
    "image_match": "Share of views whose nearest view is of the same image; no labels needed.",
    "place_match": "Share of places whose nearest place in another view is their own; no labels needed.",
    "teacher_entropy": "1 where the teacher tells nothing, 0 where it is sure of one output.",
    "top1": "Share of puzzles solved.",
    "matched": "Share of cells with a match in the other view.",
    "learning_rate": "Step size of the optimiser.",
    "gamma": "Learned weight of the context in the embedding.",
}


@dataclass(frozen=True)
class Line:
    """One column: label, points as `x,y` pairs per unbroken stretch, and where its last point lies."""

    label: str
    stretches: list[str]
    end: tuple[float, float] | None
    last: str


@dataclass(frozen=True)
class Chart:
    """One small chart of a column, or of a column that exists at several levels."""

    title: str
    hint: str
    lines: list[Line]
    low: str
    high: str
    first_epoch: int
    last_epoch: int
    summary: str


def draw_charts(columns: dict[str, list[float]]) -> list[Chart]:
    """Turn the columns of a `curves.csv` into charts, in the order of the columns.

    Columns that end in `_level_<l>` share a chart. Values that are not finite leave a gap.

    Args:
        columns: Equally long columns by name, with `epoch`; empty when there was no training.

    Returns:
        The charts; none for columns without any finite value.
    """
    epochs = columns.get("epoch", [])
    groups: dict[str, dict[str, list[float]]] = {}
    for name, values in columns.items():
        if name == "epoch" or not any(map(math.isfinite, values)):
            continue
        match = re.fullmatch(r"(.+)_level_(\d+)", name)
        group, label = (match[1], f"level {match[2]}") if match else (name, "")
        groups.setdefault(group, {})[label] = values
    return [_chart(name, lines, epochs) for name, lines in groups.items()]


def _chart(name: str, lines: dict[str, list[float]], epochs: Sequence[float]) -> Chart:
    finite = [value for values in lines.values() for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    drawn = [_line(label, values, epochs, low, high) for label, values in lines.items()]
    title = name.replace("_", " ").replace("nmi", "NMI").replace("pgg", "PGG")
    started = [next(v for v in values if math.isfinite(v)) for values in lines.values()]
    changes = [
        f"{line.label + ': ' if line.label else ''}{_short(start)} to {line.last}"
        for start, line in zip(started, drawn, strict=True)
    ]
    return Chart(
        title=title[0].upper() + title[1:],
        hint=_EXPLAINED.get(name, ""),
        lines=drawn,
        low=_short(low),
        high=_short(high),
        first_epoch=int(epochs[0]),
        last_epoch=int(epochs[-1]),
        summary=f"{title} over epochs {int(epochs[0])} to {int(epochs[-1])}, " + ", ".join(changes),
    )


def _line(label: str, values: Sequence[float], epochs: Sequence[float], low: float, high: float) -> Line:
    span, height = max(epochs[-1] - epochs[0], 1), high - low
    stretches: list[list[str]] = [[]]
    end, last = None, math.nan
    for epoch, value in zip(epochs, values, strict=True):
        if not math.isfinite(value):
            stretches.append([])
            continue
        x = WIDTH * (epoch - epochs[0]) / span
        y = HEIGHT * (high - value) / height if height > 0 else HEIGHT / 2
        stretches[-1].append(f"{x:.1f},{y:.1f}")
        end, last = (round(x, 1), round(y, 1)), value
    return Line(label, [" ".join(points) for points in stretches if points], end, _short(last))


def _short(value: float) -> str:
    """Three significant digits, or a whole number as it is."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"
