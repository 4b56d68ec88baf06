"""The model card: what the exported model is, what it was made of, how it was measured, and what it cannot do."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.export.figures import figures_table
from pipeline.labels.names import segmentation_by, segmentation_of
from pipeline.runtime.artifacts import Artifact, open_artifact

LIMITS = (
    "Labels are numbers of clusters. Which cluster is which class was never learned; names come from a person who "
    "looked at them.",
    "Segmenters without labels are far less accurate than trained ones, above all for small things; look at the "
    "results on your own images before you rely on them.",
    "The model knows images like those that it was trained on, at their scale: bring the short side of an image to "
    "the size above, and both sides to multiples of 32.",
    "Not for decisions about people, or where a mistake does harm.",
)


def write_card(
    path: Path, model: Artifact, prepared: Path, evaluation: Path, notes: dict[str, Any], figures: dict[str, Any]
) -> None:
    """Write the card as Markdown; whatever comes from data is escaped.

    Args:
        path: The file.
        model: The output of stage `train`.
        prepared: The output of stage `prepare`.
        evaluation: The output of stage `evaluate`; its figures are used if it is of this model.
        notes: What the ONNX files say of themselves.
        figures: Of the comparison.
    """
    sidecar = model.json("segmenter.json")
    encoder, cae = (sidecar["architecture"][part] for part in ("encoder", "cae"))
    sections = [
        "# Model card: FS4 segmenter",
        "Semantic segmentation without labels: every pixel gets the number of a cluster of pixels that look alike in "
        "context. Made by FS4, after Wang et al., *Fully Self-Supervised Learning for Semantic Segmentation* "
        "(arXiv:2202.11981).",
        "## What it is",
        _listing(
            ("backbone", encoder["backbone"]),
            ("embedding", f"{encoder['channels']} channels, {_context(cae)}"),
            ("clusters", len(notes["names"])),
            ("segmentation", notes["segmentation"]),
            ("input", notes["input"]),
            ("output", notes["output"]),
            ("size of the training images", f"short side {notes['resize']} px"),
            ("ONNX opset", figures["opset"]),
        ),
        "## Labels used",
        _labels_text(sidecar),
        "## Data",
        _listing(*_data(prepared)),
        "## Clusters",
        "\n".join(f"{number}. {escape(name)}" for number, name in enumerate(notes["names"])),
        "## Evaluation",
        _evaluation_text(model, evaluation),
        "## The exported files",
        f"Compared with the trained model on {figures['images']} images of split {escape(figures['split'])} "
        f"({figures['pixels']} pixels); latency of {figures['latency_of']}, median, on the CPU.",
        figures_table(figures),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
    ]
    path.write_text("\n\n".join(sections) + "\n", "utf-8")


def escape(text: object) -> str:
    """Text that Markdown shows as it is: on one line, without markup, links or HTML."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_{}\[\]()#|~!@])", r"\\\1", line)
    line = re.sub(r"^([-+=]|\d+\.)", lambda found: found[0][:-1] + "\\" + found[0][-1], line)  # no list in a list
    line = re.sub(r"(://|\bwww\.)", lambda found: found[0][:-1] + "\\" + found[0][-1], line)  # no link by itself
    return html.escape(line, quote=False)


def _listing(*entries: tuple[str, object]) -> str:
    return "\n".join(f"- {name}: {escape(value)}" for name, value in entries)


def _context(cae: dict[str, Any]) -> str:
    if not cae["enabled"]:
        return "without context"
    return f"context-aware: {cae['neighbourhood']} neighbourhood, appearance {cae['appearance']}"


def _labels_text(sidecar: dict[str, Any]) -> str:
    if sidecar.get("labels_used", True):
        return "**Labels were used**, in training or in the weights that it started from."
    return "None: neither labels nor weights pre-trained with labels were used in training."


def _data(prepared: Path) -> list[tuple[str, object]]:
    from pipeline.data.manifest import read_images

    params = open_artifact(prepared).manifest.get("params", {}).get("data", {})
    table = read_images(prepared / "images.parquet")
    counts = ", ".join(f"{len(table.select(split))} {split}" for split in table.splits)
    frame = table.frame
    crop = "whole image" if frame.crop == "none" else f"square of {frame.side} px in the middle"
    return [
        ("source", params.get("source", "not noted")),
        ("images", counts),
        ("frame", f"short side {frame.resize} px, {crop}"),
    ]


def _evaluation_text(model: Artifact, evaluation: Path) -> str:
    try:
        artifact = open_artifact(evaluation)
        if segmentation_of(artifact) != segmentation_by(model):
            return "Not evaluated: the evaluation at hand is of another training."
        metrics, protocol = artifact.json("metrics.json"), artifact.json("protocol.json")
    except (InputError, KeyError):
        return "Not evaluated."
    if "all" not in metrics:
        return "Not scored: there are no masks."
    rows = [("mIoU, %", metrics["all"]["miou"]), ("accuracy, %", metrics["all"]["pixel_accuracy"])]
    floors = metrics.get("floors", {})
    rows += [(f"floor, {escape(name.replace('_', ' '))}: mIoU, %", floors[name]["miou"]) for name in sorted(floors)]
    table = "\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in rows)])
    keys = ("protocol", "split", "matched_on", "match_rule", "frame", "labels", "checkpoint_rule")
    shown = _listing(*((key.replace("_", " "), protocol[key]) for key in keys if key in protocol))
    per_class = metrics.get("per_class", {})
    classes = "\n".join(
        ["| class | IoU, % |", "|---|---|"]
        + [f"| {escape(name)} | {'–' if iou is None else f'{iou:.1f}'} |" for name, iou in per_class.items()]
    )
    return "\n\n".join([table, shown, classes])
