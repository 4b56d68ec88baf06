"""Means over seeds, and differences between baselines that share their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.report.compare_records import Baseline, Comparison, Record
from pipeline.report.scores import FLOOR_NAMES

REFERENCE, WHOLE = "picie", "fs4"


@dataclass(frozen=True)
class Figure:
    """A figure: its title, its place in the metrics, and that of its mean over further final clusterings."""

    title: str
    place: tuple[str, ...]
    draws: str | None


FIGURES = (
    Figure("mIoU", ("all", "miou"), "miou_mean"),
    Figure("accuracy", ("all", "pixel_accuracy"), "pixel_accuracy_mean"),
    Figure("things mIoU", ("things", "miou"), "things_miou_mean"),
    Figure("stuff mIoU", ("stuff", "miou"), "stuff_miou_mean"),
    Figure("mIoU, many to one", ("majority", "miou"), None),
)
VARIANTS = (
    Figure("mIoU, refined", ("refined", "all", "miou"), None),
    Figure("mIoU, flip-averaged", ("flip_averaged", "all", "miou"), None),
)


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None below two values) and number of values."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """How far a baseline is above another on the seeds that both have.

    Attributes:
        mean: Mean of the paired differences.
        pooled_sd: sqrt((sd_a^2 + sd_b^2) / 2) over the common seeds; None below two.
        seeds: The common seeds.
    """

    mean: float
    pooled_sd: float | None
    seeds: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """`up` or `down` if the mean is beyond the pooled sd, `same` within, `unknown` without one."""
        if self.pooled_sd is None:
            return "unknown"
        if abs(self.mean) <= self.pooled_sd:
            return "same"
        return "up" if self.mean > 0 else "down"


@dataclass(frozen=True)
class FloorRow:
    """A floor beside the baselines, in percent; the deviation is over the floor's own seeds."""

    name: str
    title: str
    miou: float
    miou_sd: float | None
    accuracy: float | None


def figure_of(run: Record, figure: Figure, *, draws: bool = False) -> float | None:
    """A figure of one run in percent, of the chosen clustering or the mean over draws; None where it has none."""
    if draws:
        value = run.find("metrics", "draws", figure.draws) if figure.draws else None
    else:
        value = run.find("metrics", *figure.place)
    return None if value is None else float(value)


def shown_figures(comparison: Comparison) -> tuple[Figure, ...]:
    """The columns of a comparison: `FIGURES`, and refined or flip-averaged scores where any run has them."""
    return FIGURES + tuple(
        variant for variant in VARIANTS if any(figure_of(run, variant) is not None for run in comparison.runs)
    )


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and spread of the values that are there; None without any."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Spread(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


def spread_of(baseline: Baseline, figure: Figure, *, draws: bool = False) -> Spread | None:
    """A figure of a baseline over its seeds."""
    return spread(figure_of(run, figure, draws=draws) for run in baseline.runs)


def paired_difference(
    baseline: Baseline, reference: Baseline, figure: Figure, *, draws: bool = False
) -> Difference | None:
    """How far a baseline is above a reference; None where no seed has the figure in both."""
    ours = {run.seed: figure_of(run, figure, draws=draws) for run in baseline.runs}
    theirs = {run.seed: figure_of(run, figure, draws=draws) for run in reference.runs}
    pairs = {
        seed: (value, other)
        for seed, value in ours.items()
        if value is not None and (other := theirs.get(seed)) is not None
    }
    if not pairs:
        return None
    values, others = zip(*pairs.values(), strict=True)
    pooled = None
    if len(pairs) > 1:
        pooled = math.sqrt((statistics.variance(values) + statistics.variance(others)) / 2)
    return Difference(statistics.fmean(values) - statistics.fmean(others), pooled, tuple(pairs))


def class_table(comparison: Comparison) -> list[tuple[str, list[Spread | None]]]:
    """IoU of every class by baseline, classes in the order in which the records name them."""
    names = dict.fromkeys(name for run in comparison.runs for name in run.metrics.get("per_class", {}))
    return [
        (
            name,
            [
                spread(run.find("metrics", "per_class", name) for run in baseline.runs)
                for baseline in comparison.baselines
            ],
        )
        for name in names
    ]


def floor_rows(comparison: Comparison) -> list[FloorRow]:
    """The floors, best first; a mean where runs of one comparison disagree."""
    names = {name for run in comparison.runs for name in run.metrics.get("floors", {})}
    rows = []
    for name in names:
        miou, sd, accuracy = (
            spread(run.find("metrics", "floors", name, key) for run in comparison.runs)
            for key in ("miou", "miou_sd", "pixel_accuracy")
        )
        if miou:
            title = FLOOR_NAMES.get(name, name.replace("_", " "))
            rows.append(FloorRow(name, title, miou.mean, _mean(sd), _mean(accuracy)))
    return sorted(rows, key=lambda row: (-row.miou, row.name))


def stage_table(comparison: Comparison) -> tuple[list[str], list[list[float | None]]]:
    """Seconds by stage: the stages in the order of the graph, and per baseline the mean over its runs."""
    known = ("prepare", "pretrain", "extract", "cluster", "train", "evaluate", "report")
    found = {stage for run in comparison.runs for stage in run.seconds}
    stages = [stage for stage in known if stage in found] + sorted(found.difference(known))
    table = []
    for baseline in comparison.baselines:
        means = [spread(run.seconds.get(stage) for run in baseline.runs) for stage in stages]
        table.append([_mean(seconds) for seconds in means])
    return stages, table


def _mean(found: Spread | None) -> float | None:
    return found.mean if found else None


def judge_comparison(comparison: Comparison) -> tuple[str, str]:
    """The result in two sentences, and its tone (`good`, `poor` or nothing).

    The first compares FS4 with pixel clustering alone, over the final clusterings where both have them; the second
    compares FS4 with the best floor.
    """
    by_name = {baseline.name: baseline for baseline in comparison.baselines}
    missing = [name for name in (REFERENCE, WHOLE) if name not in by_name]
    if missing:
        return f"There are no runs of {' and '.join(missing)} yet, so the whole cannot be judged.", ""
    ours, reference, miou = by_name[WHOLE], by_name[REFERENCE], FIGURES[0]
    drawn = paired_difference(ours, reference, miou, draws=True)
    found = drawn or paired_difference(ours, reference, miou)
    if found is None:
        return f"{WHOLE} and {REFERENCE} have no seed in common, so they cannot be paired.", ""
    mean = spread_of(ours, miou, draws=drawn is not None)
    assert mean is not None
    seeds = f"{len(found.seeds)} common seed{'s' if len(found.seeds) > 1 else ''}"
    deviation = "no sd from one seed" if found.pooled_sd is None else f"pooled sd {found.pooled_sd:.1f}"
    what = "mean over the final clusterings" if drawn else "chosen clustering"
    side = "above" if found.mean >= 0 else "below"
    sentence = f"{WHOLE} is {abs(found.mean):.1f} points of mIoU {side} {REFERENCE} ({seeds}, {deviation}; {what})"
    above = True
    if floors := floor_rows(comparison):
        above = mean.mean > floors[0].miou
        side = "above" if above else "not above"
        sentence += f"; with {mean.mean:.1f}\u00a0% it is {side} the best floor ({floors[0].miou:.1f}\u00a0%)"
    tone = {"up": "good" if above else "poor", "down": "poor", "same": "poor"}.get(found.verdict, "")
    return f"{sentence}.", tone
