"""Measured runs kept as small JSON records, and the table that the README shows of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, ParamsError
from pipeline.runtime.artifacts import open_artifact, write_json

EVALUATION = Path("data/evaluation")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
START, END = "<!-- results: `fs4 results` -->", "<!-- end of results -->"
HEADER = (
    "| run | images scored | K | accuracy | mIoU | mIoU, many to one | floor: colour + position | floor: random "
    "| command |\n|---|---|---|---|---|---|---|---|---|"
)


def record_result(name: str, command: str, folder: Path) -> Path:
    """Keep the figures of the run that now stands in `data/evaluation`.

    Args:
        name: The record's name: small letters, digits and dashes.
        command: What regenerates the run.
        folder: Where records lie.

    Returns:
        The file that was written.

    Raises:
        ParamsError: The name is not a plain one.
        InputError: There is no finished evaluation.
    """
    if not NAME.fullmatch(name):
        raise ParamsError(f"{name!r} cannot name a record; use small letters, digits and dashes")
    evaluation = open_artifact(EVALUATION)
    path = folder / f"{name}.json"
    write_json(
        path,
        {
            "command": command,
            "metrics": evaluation.json("metrics.json"),
            "protocol": evaluation.json("protocol.json"),
            "versions": evaluation.manifest["versions"],
            "machine": evaluation.manifest["machine"],
        },
    )
    return path


def results_table(folder: Path) -> str:
    """The records as a Markdown table, sorted by name.

    Raises:
        InputError: A file there is not a record.
    """
    lines = [HEADER]
    for path in sorted(folder.glob("*.json")):
        try:
            lines.append(_row(path.stem, json.loads(path.read_text("utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a record of a run ({error!r}); write it with `fs4 record`") from None
    return "\n".join(lines)


def replace_table(text: str, table: str) -> str:
    """Put the table between the two markers of a Markdown text.

    Raises:
        InputError: The markers are missing.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise InputError(f"README.md: the markers {START} and {END} are missing; put them around the table")
    return f"{before}{START}\n{table}\n{END}{after}"


def _row(name: str, record: dict[str, Any]) -> str:
    metrics, protocol = record["metrics"], record["protocol"]
    floors = metrics["floors"]
    cells = [
        name,
        f"{metrics['protocol']['images']} {protocol['split']}",
        f"{metrics['clusters']['k']:.0f}",
        f"{metrics['all']['pixel_accuracy']:.1f}",
        f"**{metrics['all']['miou']:.1f}**",
        f"{metrics['majority']['miou']:.1f}",
        f"{floors['colour_position_kmeans']['miou']:.1f}",
        f"{floors['random']['miou']:.1f}",
        f"`{record['command']}`",
    ]
    return "| " + " | ".join(cells) + " |"
