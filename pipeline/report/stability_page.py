"""One offline HTML page on how stable each number of clusters is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.clustering.stability import Spread, Stability, Suggestion
from pipeline.report.rendering import page_templates

WIDTH, HEIGHT = 640, 220  # units of a drawing; the page scales it
TICKS = 8  # numbers below a drawing, about


@dataclass(frozen=True)
class Curve:
    """A line through the means, and around it a band of one standard deviation; both as `x,y` pairs."""

    label: str
    points: str
    band: str
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Curves over k, with the numbers on the axes and where they stand."""

    title: str
    summary: str
    curves: list[Curve]
    across: list[tuple[float, int]]
    up: list[tuple[float, str]]
    marked: float | None


def explain(results: Sequence[Stability], suggestion: Suggestion) -> str:
    """What the measurement says, in two or three plain sentences."""
    if suggestion.k is None:
        return (
            "No number of clusters is more stable than on data without clusters, so stability suggests none. "
            "Choose train.k by the number of classes you expect."
        )
    text = f"Stability suggests k = {suggestion.k}"
    if suggestion.others:
        text += f"; also worth a try: {', '.join(map(str, suggestion.others))}"
    if suggestion.k == results[-1].k:
        text += ". This is the largest k that was tried, so try larger ones"
    return f"{text}. It does not know your classes: if you expect another number of them, trust that."


def stability_table(results: Sequence[Stability], suggestion: Suggestion) -> str:
    """The measurement as text, one line per k."""
    lines = ["  k  agreement    normal       permuted     gap"]
    for result in results:
        spreads = (result.agreement, result.gaussian, result.permuted)
        cells = "  ".join(f"{spread.mean:5.2f} ± {spread.sd:.2f}" for spread in spreads)
        mark = "  suggested" if result.k == suggestion.k else "  may be chance" if not result.supported else ""
        lines.append(f"{result.k:3d} {cells} {result.gap:6.2f}{mark}")
    return "\n".join(lines)


def build_stability_page(results: Sequence[Stability], suggestion: Suggestion, settings: dict[str, Any]) -> str:
    """Make the page.

    Args:
        results: By ascending k.
        suggestion: What follows from them.
        settings: What was measured, and on what, by name.

    Returns:
        HTML text. The same arguments give the same text.
    """
    agreement = _plot(
        "Agreement of the two halves (adjusted Rand index)",
        results,
        {
            "your images": lambda result: result.agreement,
            "no clusters: normal, same covariance": lambda result: result.gaussian,
            "no clusters: features permuted": lambda result: result.permuted,
        },
        suggestion.k,
        top=1.0,
    )
    gap = _plot(
        "Gap to the more stable of the two references",
        results,
        {"gap": lambda result: Spread(result.gap, result.gap_sd)},
        suggestion.k,
        top=0.5,
    )
    context = {
        "text": explain(results, suggestion),
        "suggestion": suggestion,
        "results": results,
        "plots": [agreement, gap],
        "plot_size": (WIDTH, HEIGHT),
        "settings": settings,
    }
    return page_templates().get_template("stability.html.j2").render(context)


def _plot(
    title: str,
    results: Sequence[Stability],
    curves: dict[str, Callable[[Stability], Spread]],
    marked: int | None,
    *,
    top: float,
) -> Plot:
    ks = [result.k for result in results]
    spreads = {label: [read(result) for result in results] for label, read in curves.items()}
    everything = [spread for column in spreads.values() for spread in column]
    low = min(0.0, *(spread.mean - spread.sd for spread in everything))
    high = max(top, *(spread.mean + spread.sd for spread in everything))

    def x(k: int) -> float:
        return round(WIDTH * (k - ks[0]) / max(ks[-1] - ks[0], 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (high - value) / (high - low), 1)

    def line(pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{across},{up}" for across, up in pairs)

    drawn = []
    for label, column in spreads.items():
        dots = [(x(k), y(spread.mean)) for k, spread in zip(ks, column, strict=True)]
        upper = [(x(k), y(spread.mean + spread.sd)) for k, spread in zip(ks, column, strict=True)]
        lower = [(x(k), y(spread.mean - spread.sd)) for k, spread in zip(ks, column, strict=True)]
        drawn.append(Curve(label, line(dots), line(upper + lower[::-1]), dots))
    first = next(iter(spreads.values()))
    summary = ", ".join(f"{spread.mean:.2f} at k {k}" for k, spread in zip(ks, first, strict=True))
    return Plot(
        title=title,
        summary=f"{title}: {summary}",
        curves=drawn,
        across=[(x(k), k) for k in _ticks(ks)],
        up=[(y(value), f"{value:g}") for value in (0.0, 0.25, 0.5, 0.75, 1.0) if low <= value <= high],
        marked=None if marked is None else x(marked),
    )


def _ticks(ks: Sequence[int]) -> list[int]:
    """Some of the ks, so far apart that their numbers do not touch."""
    least = (ks[-1] - ks[0]) / TICKS
    ticks = [ks[0]]
    for k in ks[1:]:
        if k - ticks[-1] >= least:
            ticks.append(k)
    return ticks
