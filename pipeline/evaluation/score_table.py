"""The figures of a scored folder, or of several seeds, as plain text."""

from __future__ import annotations

import statistics
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
    protocol, boundary = metrics["protocol"], metrics.get("boundary")
    lines = [
        f"{protocol['images']} pairs, {protocol['pixels']} pixels, {len(classes)} classes "
        f"({protocol['classes_counted']} in the mIoU), {metrics['clusters']['k']} clusters; match: {rule}",
        "",
        *_align(
            [
                ("", *_COLUMNS.values()),
                *((name, *(_shown(row.get(key)) for key in _COLUMNS)) for name, row in _rows(metrics).items()),
            ]
        ),
        "",
        *_beside(metrics),
        "",
    ]
    head = ("class", "IoU", "boundary F1") if boundary else ("class", "IoU")
    groups = [metrics["per_class"], boundary["per_class"]] if boundary else [metrics["per_class"]]
    return "\n".join([*lines, *_align([head, *((name, *(_shown(g.get(name)) for g in groups)) for name in classes)])])


def spread_table(
    results: Sequence[dict[str, Any]], names: Sequence[str], classes: Sequence[str], match_rule: str
) -> str:
    """Lay out mean ± sample standard deviation over the results of several seeds, in percent.

    A figure that one of them lacks, such as the IoU of a class that it neither predicts nor has, is left out.

    Args:
        results: contents of `metrics.json`, two or more.
        names: what each is called.
        classes: names in class order.
        match_rule: what `protocol.json` says of it.

    Returns:
        Lines without a final line break.
    """
    tables = [_rows(metrics) for metrics in results]
    rows = [
        (name, *(_spread([table.get(name, {}).get(key) for table in tables]) for key in _COLUMNS)) for name in tables[0]
    ]
    partitions = [metrics["partition"] for metrics in results]
    nmi, ari = (_spread([partition[key] for partition in partitions], 3) for key in ("nmi", "ari"))
    groups = {"IoU": [metrics["per_class"] for metrics in results]}
    beside = [f"without matching (0 to 1): NMI {nmi}, ARI {ari}"]
    if "boundary" in results[0]:
        groups["boundary F1"] = [metrics["boundary"]["per_class"] for metrics in results]
        beside.append(f"boundary F1: {_spread([metrics['boundary'].get('f1') for metrics in results])}")
    by_class = [(name, *(_spread([one.get(name) for one in group]) for group in groups.values())) for name in classes]
    lines = [
        f"mean ± sd over {len(results)} results, {results[0]['protocol']['images']} pairs each; match: {match_rule}",
        *(f"  {name}: mIoU {metrics['all']['miou']:.1f}" for name, metrics in zip(names, results, strict=True)),
        "",
        *_align([("", *_COLUMNS.values()), *rows]),
        "",
        *beside,
        "",
        *_align([("class", *groups), *by_class]),
    ]
    return "\n".join(lines)


def _rows(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of the sections and of what stands beside them, by title."""
    rows: dict[str, dict[str, Any]]
    rows = {section: metrics[section] for section in ("all", "things", "stuff") if section in metrics}
    rows |= {f"{section} among {section}": figures for section, figures in metrics.get("restricted", {}).items()}
    rows["by majority"] = metrics["majority"]
    rows["floor: one class everywhere"] = metrics["floors"]["majority_class"]
    return rows


def _spread(values: Sequence[float | None], digits: int = 1) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return _MISSING
    return f"{statistics.fmean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"


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
