"""The figures of one scored folder as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COLUMNS = {"miou": "mIoU", "miou_present": "present", "pixel_accuracy": "accuracy", "mean_accuracy": "mean accuracy"}
_MISSING = "–"


def score_table(metrics: dict[str, Any], classes: Sequence[str], rule: str) -> str:
    """Lay out the figures in percent: sections, what belongs beside them, and the classes.

    Args:
        metrics: contents of `metrics.json`.
        classes: names in class order.
        rule: name of the matching rule.

    Returns:
        Lines without a final line break.
    """
    protocol, restricted = metrics["protocol"], metrics.get("restricted", {})
    rows: list[tuple[str, dict[str, Any]]] = [
        (section, metrics[section]) for section in ("all", "things", "stuff") if section in metrics
    ]
    rows += [(f"{section} among {section}", figures) for section, figures in restricted.items()]
    rows.append(("by majority", metrics["majority"]))
    rows.append(("floor: one class everywhere", metrics["floors"]["majority_class"]))
    boundary = metrics.get("boundary")
    lines = [
        f"{protocol['images']} pairs, {protocol['pixels']} pixels, {len(classes)} classes "
        f"({protocol['classes_counted']} in the mIoU), {metrics['clusters']['k']} clusters; match: {rule}",
        "",
        *_align(
            [("", *_COLUMNS.values()), *((name, *(_shown(row.get(key)) for key in _COLUMNS)) for name, row in rows)]
        ),
        "",
        *_beside(metrics),
        "",
    ]
    head = ("class", "IoU", "boundary F1") if boundary else ("class", "IoU")
    groups = [metrics["per_class"], boundary["per_class"]] if boundary else [metrics["per_class"]]
    return "\n".join([*lines, *_align([head, *((name, *(_shown(g.get(name)) for g in groups)) for name in classes)])])


def _beside(metrics: dict[str, Any]) -> list[str]:
    lines = []
    if bootstrap := metrics.get("bootstrap"):
        lines.append(
            f"95 % interval over images: mIoU {bootstrap['miou_low']:.1f} to {bootstrap['miou_high']:.1f}, accuracy "
            f"{bootstrap['pixel_accuracy_low']:.1f} to {bootstrap['pixel_accuracy_high']:.1f}"
        )
    partition = metrics["partition"]
    lines.append(f"without matching (0 to 1): NMI {partition['nmi']:.3f}, ARI {partition['ari']:.3f}")
    if "f1" in metrics.get("boundary", {}):
        lines.append(f"boundary F1: {metrics['boundary']['f1']:.1f}")
    return lines


def _shown(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.1f}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    return lines
