"""One offline HTML page on what labels buy: the probes, and the curve over the number of labelled images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.report.rendering import page_templates
from pipeline.runtime.artifacts import open_artifact, replace_file
from pipeline.runtime.places import check_page

PROBES, CURVES = Path("data/probe"), Path("data/finetune")
WIDTH, HEIGHT = 640, 240  # units of a drawing; the page scales it
STARTS = {"pretrained": "pre-trained", "random": "random weights"}


@dataclass(frozen=True)
class FewLabelCurve:
    """One start: a line through the means, a band of one standard deviation, and every seed as a dot."""

    label: str
    points: str
    band: str
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class FewLabelRow:
    """One number of labelled images, in percent of all: mean and standard deviation by start, and the single seeds."""

    images: int
    share: float
    means: Mapping[str, Mapping[str, Any]]
    points: list[Mapping[str, Any]]

    @property
    def gain(self) -> float | None:
        """By how much the pre-trained start is better, in points of mIoU."""
        if set(self.means) != set(STARTS):
            return None
        return float(self.means["pretrained"]["miou_mean"] - self.means["random"]["miou_mean"])


@dataclass(frozen=True)
class FewLabelPlot:
    """mIoU over the number of labelled images, of one map."""

    title: str
    summary: str
    curves: list[FewLabelCurve]
    across: list[tuple[float, int]]
    up: list[tuple[float, int]]
    rows: list[FewLabelRow]
    seeds: int


@dataclass(frozen=True)
class ClassProbes:
    """IoU of one class by column of the probes; None where the class does not occur."""

    name: str
    ious: list[float | None]


def write_labels_page(out: Path) -> Path:
    """Write the page from what the stages `probe` and `finetune` have left.

    Args:
        out: The HTML file.

    Raises:
        InputError: Neither stage has run, or the file would lie in a finished output.
        ParamsError: The file does not end in .html.
    """
    check_page(out, "--out")
    probes, curves = read_found(PROBES, "probe.json"), read_found(CURVES, "curve.json")
    if not probes and not curves:
        raise InputError(
            f"{PROBES} and {CURVES}: nothing here; run `dvc exp run -S 'optional.probe=[backbone,segmenter]'` first"
        )
    replace_file(out, build_labels_page(probes, curves).encode())
    return out


def build_labels_page(probes: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]) -> str:
    """Make the page.

    Args:
        probes: Contents of `probe.json`, one per map.
        curves: Contents of `curve.json`, one per map.

    Returns:
        HTML text. The same arguments give the same text.
    """
    columns, classes = compare_classes(probes)
    context = {
        "probes": probes,
        "columns": columns,
        "classes": classes,
        "plots": [draw_few_labels(curve) for curve in curves],
        "curves": curves,
        "plot_size": (WIDTH, HEIGHT),
        "starts": STARTS,
    }
    return page_templates().get_template("labels.html.j2").render(context)


def draw_few_labels(curve: Mapping[str, Any]) -> FewLabelPlot:
    """Place one curve: the number of images on a logarithmic axis, mIoU from 0 up."""
    points, means = curve["points"], curve["means"]
    counts = sorted({point["images"] for point in points})
    highest = max(*(point["miou"] for point in points), *(mean["miou_mean"] + mean["miou_sd"] for mean in means), 10.0)
    top = min(100, 10 * math.ceil(highest / 10)) if highest <= 100 else highest
    span = math.log(counts[-1] / counts[0]) or 1.0

    def place(images: int, miou: float) -> tuple[float, float]:
        across = WIDTH * math.log(images / counts[0]) / span
        return round(across, 1), round(HEIGHT * (1 - min(max(miou / top, 0.0), 1.0)), 1)

    drawn = []
    for start, label in STARTS.items():
        column = [mean for mean in means if mean["start"] == start]
        upper = [place(mean["images"], mean["miou_mean"] + mean["miou_sd"]) for mean in column]
        lower = [place(mean["images"], mean["miou_mean"] - mean["miou_sd"]) for mean in column]
        line = [place(mean["images"], mean["miou_mean"]) for mean in column]
        dots = [place(point["images"], point["miou"]) for point in points if point["start"] == start]
        drawn.append(FewLabelCurve(label, _pairs(line), _pairs(upper + lower[::-1]), dots))
    step = 10 if top <= 60 else 20
    return FewLabelPlot(
        title=f"{curve['map']}: mIoU over labelled images",
        summary="; ".join(
            f"{STARTS[mean['start']]}, {mean['images']} images: {mean['miou_mean']:.1f}" for mean in means
        ),
        curves=drawn,
        across=[(place(count, 0.0)[0], count) for count in counts],
        up=[(place(counts[0], value)[1], value) for value in range(0, int(top) + 1, step)],
        rows=[
            FewLabelRow(
                count,
                100 * count / curve["labelled_images"],
                {mean["start"]: mean for mean in means if mean["images"] == count},
                [point for point in points if point["images"] == count],
            )
            for count in counts
        ],
        seeds=max(mean["seeds"] for mean in means),
    )


def compare_classes(probes: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[ClassProbes]]:
    """The classes beside each other.

    Args:
        probes: Contents of `probe.json`, one per map.

    Returns:
        The columns' titles, and one row per class in the order of the first probe.
    """
    columns = [(found["map"], kind, figures) for found in probes for kind, figures in found["probes"].items()]
    names = list(dict.fromkeys(name for _, _, figures in columns for name in figures["per_class"]))
    rows = [ClassProbes(name, [figures["per_class"].get(name) for _, _, figures in columns]) for name in names]
    return [f"{source}, {kind}" for source, kind, _ in columns], rows


def _pairs(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def read_found(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """What one stage found, for each map that it ran for, by the map's name.

    Args:
        folder: The stage's folder below `data`; it need not exist.
        name: The JSON file in each output.
    """
    finished = sorted(path.parent for path in folder.glob("*/manifest.json"))
    return [open_artifact(path).json(name) for path in finished]
