"""Measured runs kept as small JSON records, and the table that the README shows of them."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import InputError, ParamsError
from pipeline.runtime.artifacts import open_artifact, replace_file

EVALUATION = Path("data/evaluation")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
START, END = "<!-- results: `fs4 results` -->", "<!-- end of results -->"
HEADER = (
    "| run | images scored | K | accuracy | mIoU | mIoU, many to one | floor: colour + position | floor: random "
    "| command |\n|---|---|---|---|---|---|---|---|---|"
)
BASELINES_HEADER = (
    "| data | baseline | seeds | accuracy | mIoU | things | stuff | floor: colour + position | training, s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
Made = TypeVar("Made")


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
    path = record_path(name, folder)
    write_record(path, collect_record(command))
    return path


def record_path(name: str, folder: Path) -> Path:
    """The file of a record.

    Raises:
        ParamsError: The name has other characters than small letters, digits and dashes.
    """
    if not NAME.fullmatch(name):
        raise ParamsError(f"{name!r} cannot name a record; use small letters, digits and dashes")
    return folder / f"{name}.json"


def collect_record(command: str) -> dict[str, Any]:
    """The figures of the run that now stands in `data/evaluation`, with protocol, versions and machine.

    Args:
        command: What regenerates the run.

    Raises:
        InputError: There is no finished evaluation.
    """
    evaluation = open_artifact(EVALUATION)
    return {
        "command": command,
        "metrics": evaluation.json("metrics.json"),
        "protocol": evaluation.json("protocol.json"),
        "versions": evaluation.manifest["versions"],
        "machine": evaluation.manifest["machine"],
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    replace_file(path, f"{text}\n".encode())


def results_table(folder: Path) -> str:
    """The records as Markdown: single runs, sorted by name, and after them the baselines if there are any.

    Raises:
        InputError: A file there is not a record.
    """
    records = read_records(folder)
    lines = [HEADER, *(_checked(_row, path.stem, record) for path, record in records if not record.get("preset"))]
    baselines = baselines_table(folder)
    return "\n".join([*lines, "", baselines] if baselines else lines)


def baselines_table(folder: Path, data: str | None = None) -> str:
    """The baselines' records as Markdown: one row for each, mean and standard deviation over seeds.

    Args:
        folder: Where records lie.
        data: Name of the only data to show; None for all.

    Returns:
        The table; empty if there are no such records.

    Raises:
        InputError: A file there is not a record.
    """
    groups: dict[tuple[str, str], list[_Result]] = {}
    for path, record in read_records(folder):
        if record.get("preset") and data in (None, record.get("data")):
            result = _checked(_result, path.stem, record)
            groups.setdefault((record["data"], record["preset"]), []).append(result)
    lines = [BASELINES_HEADER] if groups else []
    for (name, preset), results in sorted(groups.items()):
        columns = zip(*(result.figures for result in results), strict=True)
        seeds = ", ".join(map(str, sorted(result.seed for result in results)))
        cells = [name, f"`{preset}`", seeds, *(_mean(list(column)) for column in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    for name in sorted({name for name, _ in groups}):
        codes = {result.code for group, results in groups.items() if group[0] == name for result in results}
        if len(codes) > 1:
            lines.append(f"\n{name}: made with {len(codes)} versions of the code; `make baselines` makes them alike.")
    return "\n".join(lines)


def read_records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All records, sorted by file name.

    Raises:
        InputError: A file there is not a record.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise _no_record(path.stem, error) from None
        if not isinstance(record, dict):
            raise _no_record(path.stem, record)
        found.append((path, record))
    return found


def replace_table(text: str, table: str) -> str:
    """Put the table between the two markers of the README.

    Raises:
        InputError: The markers are missing.
    """
    return put_between(text, table, START, END, "README.md")


def put_between(text: str, table: str, start: str, end: str, name: str) -> str:
    """Put Markdown between two markers of a text; `name` tells in the message which text it is.

    Raises:
        InputError: The markers are missing.
    """
    before, first, rest = text.partition(start)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise InputError(f"{name}: the markers {start} and {end} are missing; put them around the table")
    return f"{before}{start}\n{table}\n{end}{after}"


def _checked(read: Callable[[str, dict[str, Any]], Made], name: str, record: dict[str, Any]) -> Made:
    try:
        return read(name, record)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_record(name, error) from None


def _no_record(name: str, found: object) -> InputError:
    return InputError(f"{name}.json: not a record of a run ({found!r}); write it with `fs4 record`, or remove it")


@dataclass(frozen=True)
class _Result:
    """One baseline run; figures that it does not have are None."""

    seed: int
    code: str
    figures: list[float | None]


def _result(name: str, record: dict[str, Any]) -> _Result:
    metrics = record["metrics"]
    places = [
        ("all", "pixel_accuracy"),
        ("all", "miou"),
        ("things", "miou"),
        ("stuff", "miou"),
        ("floors", "colour_position_kmeans", "miou"),
    ]
    figures: list[float | None] = []
    for place in places:
        value: Any = metrics
        for key in place:
            value = value.get(key, {})
        figures.append(float(value) if value != {} else None)
    figures.append(record["seconds"].get("train"))
    return _Result(int(record["seed"]), record["digests"]["code"], figures)


def _mean(values: list[float | None]) -> str:
    """Mean ± sample standard deviation."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{spread}"


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
