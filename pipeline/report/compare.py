"""The comparison of baselines: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, ParamsError
from pipeline.report.compare_pictures import PictureGrid, collect_pictures
from pipeline.report.compare_records import Comparison, collect_facts, group_records, read_records
from pipeline.report.compare_scores import (
    FIGURES,
    REFERENCE,
    class_table,
    figure_of,
    floor_rows,
    judge_comparison,
    paired_difference,
    shown_figures,
    spread_of,
    stage_table,
)
from pipeline.report.rendering import page_templates
from pipeline.runtime.artifacts import replace_file

_STEP = 5  # percent; the axis of the chart ends at a multiple of it


@dataclass(frozen=True)
class Strip:
    """One row of the chart: the mIoU of each run, and mean and spread, as places in percent of the axis."""

    name: str
    runs: list[tuple[float, str]]
    drawn: list[tuple[float, str]]
    mean: float
    low: float
    high: float


def write_comparison(records: Path, pictures: Path, out: Path, data: str | None) -> Path:
    """Compare the records of baselines on one page.

    Args:
        records: Where the records lie.
        pictures: Where the galleries of the runs lie.
        out: The file to write.
        data: Only this data set; None for all.

    Returns:
        `out`.

    Raises:
        InputError: There are no records of baselines, or a file is no record.
        ParamsError: No record is of that data set.
    """
    found, left_out = read_records(records)
    if not found:
        raise InputError(f"{records}: no records of baselines; `make baselines` writes them")
    known = sorted({record.data for record in found})
    if data is not None and data not in known:
        raise ParamsError(f"--data: {data!r} has no records; {records} has {', '.join(known)}")
    comparisons = group_records(record for record in found if data in (None, record.data))
    replace_file(out, build_comparison(comparisons, left_out, pictures).encode())
    return out


def build_comparison(comparisons: list[Comparison], left_out: list[str], pictures: Path) -> str:
    """Make the page.

    Args:
        comparisons: What to show, in this order.
        left_out: Names of the records that belong to no comparison.
        pictures: Where the galleries of the runs lie.

    Returns:
        HTML text. The same inputs give the same text.
    """
    sections = [
        _section(comparison, collect_pictures(pictures, comparison), f"c{number}")
        for number, comparison in enumerate(comparisons)
    ]
    context = {"sections": sections, "left_out": left_out, "reference": REFERENCE}
    return page_templates().get_template("compare.html.j2").render(context)


def draw_strips(comparison: Comparison, floors: list[float]) -> tuple[list[Strip], list[float], float]:
    """The mIoU of all runs as a chart.

    Args:
        comparison: The runs.
        floors: mIoU of the floors in percent.

    Returns:
        A row per baseline, the places of the floors in percent of the axis, and the end of the axis in percent mIoU.
    """
    miou = FIGURES[0]
    values = [run.metrics["all"]["miou"] for run in comparison.runs] + floors
    end = min(100.0, _STEP * (math.floor(max(values) / _STEP) + 1))

    def place(value: float) -> float:
        return 100 * min(max(value, 0.0), end) / end

    strips = []
    for baseline in comparison.baselines:
        mean = spread_of(baseline, miou)
        assert mean is not None
        drawn = [(run.seed, figure_of(run, miou, draws=True)) for run in baseline.runs]
        half = mean.sd or 0.0
        strips.append(
            Strip(
                baseline.name,
                [
                    (place(m), f"seed {run.seed}: {m:.1f}")
                    for run in baseline.runs
                    for m in [run.metrics["all"]["miou"]]
                ],
                [(place(m), f"seed {seed}, mean over draws: {m:.1f}") for seed, m in drawn if m is not None],
                place(mean.mean),
                place(mean.mean - half),
                place(mean.mean + half),
            )
        )
    return strips, [place(value) for value in floors], end


def _section(comparison: Comparison, grid: PictureGrid, anchor: str) -> dict[str, Any]:
    floors = floor_rows(comparison)
    facts = collect_facts(comparison.runs)
    disputes = [fact for fact in facts if len(fact.values) > 1]
    sentence, tone = judge_comparison(comparison)
    if disputes:
        sentence, tone = f"{sentence} Mind that the runs differ in protocol, as said below.", ""
    reference = next((baseline for baseline in comparison.baselines if baseline.name == REFERENCE), None)
    drawn = any("draws" in run.metrics for run in comparison.runs)
    strips, floor_places, axis_end = draw_strips(comparison, [floors[0].miou] if floors else [])
    stages, seconds = stage_table(comparison)
    classes = class_table(comparison)
    figures = shown_figures(comparison)
    return {
        "anchor": anchor,
        "title": f"{comparison.data}, {comparison.split}",
        "sentence": sentence,
        "tone": tone,
        "baselines": comparison.baselines,
        "runs": comparison.runs,
        "images": comparison.runs[0].find("metrics", "protocol", "images"),
        "floors": floors,
        "drawn": drawn,
        "figures": figures,
        "spreads": [
            [(spread_of(baseline, figure), spread_of(baseline, figure, draws=True)) for figure in figures]
            for baseline in comparison.baselines
        ],
        "differences": [
            (
                baseline.name,
                [
                    (
                        paired_difference(baseline, reference, figure),
                        paired_difference(baseline, reference, figure, draws=True),
                    )
                    for figure in figures
                ],
            )
            for baseline in comparison.baselines
            if reference and baseline is not reference
        ],
        "strips": strips,
        "floor_places": floor_places,
        "axis_end": axis_end,
        "classes": [(name, spreads, _best(spreads)) for name, spreads in classes],
        "grid": grid,
        "stages": stages,
        "seconds": list(zip(comparison.baselines, seconds, strict=True)),
        "facts": [fact for fact in facts if len(fact.values) == 1],
        "disputes": disputes,
        "folder": f"data/compare/{comparison.data}",
    }


def _best(spreads: list[Any]) -> float | None:
    means = [found.mean for found in spreads if found]
    return max(means) if means else None
