"""The tables of docs/speed.md, made from docs/results/bench/*.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS, PAGE = Path("docs/results/bench"), Path("docs/speed.md")
START, END = "<!-- benchmarks: `python -m benchmarks --table` -->", "<!-- end of benchmarks -->"
HEADER = "| measured | against | ours | theirs | ratio | to reach | reached |\n|---|---|---|---|---|---|---|"

PARTS = {  # by module of this folder
    "extraction": "Extraction of features",
    "steps": "A step of training",
    "epochs": "An epoch of training",
    "cae": "The context-aware embedding",
    "clustering": "k-means",
    "shards": "Parquet shards",
    "evaluation": "The confusion matrix",
    "graph": "The graph",
    "scaling": "Growth",
    "costs": "What large data sets cost",
}


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows of one part as a table in Markdown; of costs one table for each data set."""
    if "gpu_hours" in rows[0]:
        return "\n\n".join(_costs(data, rows) for data in dict.fromkeys(row["data"] for row in rows))
    lines = [HEADER]
    for row in rows:
        reached = {True: "yes", False: "**no**", None: "–"}[row["met"]]
        cells = [row["what"], row["against"], *(_amount(row[key], row["unit"]) for key in ("ours", "other"))]
        reach = row["reach"].replace(">=", "≥").replace("<=", "≤") or "–"
        lines.append("| " + " | ".join([*cells, f"{row['ratio']:.2f}", reach, reached]) + " |")
    return "\n".join(lines)


def _costs(data: str, rows: list[dict[str, Any]]) -> str:
    lines = [f"{data}:\n", "| stage | 2 cores, h | one GPU, h (estimated) | disk, GB |", "|---|---|---|---|"]
    for row in rows:
        if row["data"] == data:
            cells = (_amount(row[key], "").strip() for key in ("hours", "gpu_hours", "gigabytes"))
            lines.append("| " + " | ".join([row["stage"], *cells]) + " |")
    return "\n".join(lines)


def write_table() -> None:
    """Put the tables of all recorded parts between the markers of docs/speed.md."""
    parts = []
    for name, title in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text("utf-8"))
            parts.append(f"### {title}\n\n{markdown(record['rows'])}\n\n{_made(record)}")
    text = PAGE.read_text("utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{PAGE}: the markers {START} and {END} are missing; put them around the tables")
    PAGE.write_text(f"{before}{START}\n" + "\n\n".join(parts) + f"\n{END}{after}", "utf-8")


def _made(record: dict[str, Any]) -> str:
    versions = record["versions"]
    return f"{record['processor']}; {record['threads']} thread; torch {versions['torch']}, numpy {versions['numpy']}."


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value else "–"
