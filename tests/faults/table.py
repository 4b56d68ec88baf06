"""Writes `docs/faults.md` from the docstrings of the tests of faults: `python -m tests.faults.table`.

The first paragraph of such a docstring is the fault, the rest is the behaviour.
"""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/faults.md"
ROWS = range(1, 43)
NAME = re.compile(r"test_row_(\d\d)_\w+")
RUNS_START, RUNS_END = "<!-- runs: `python -m tests.faults.table` -->", "<!-- end of runs -->"
START, END = "<!-- faults: `python -m tests.faults.table` -->", "<!-- end of faults -->"


@dataclass(frozen=True, order=True)
class Row:
    """One test of the table, sorted by its number and its place."""

    number: int
    file: str
    line: int
    test: str
    fault: str
    behaviour: str


def read_rows() -> list[Row]:
    """The tests of the table, in the order of their numbers.

    Raises:
        ValueError: A test does not say what its fault and the behaviour are.
    """
    rows = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (found := NAME.fullmatch(node.name)):
                parts = [" ".join(part.split()) for part in (ast.get_docstring(node) or "").split("\n\n")]
                if len(parts) != 2:
                    raise ValueError(f"{path.name}, {node.name}: its docstring must be the fault and the behaviour")
                place = path.relative_to(ROOT).as_posix()
                rows.append(Row(int(found[1]), place, node.lineno, node.name, *parts))
    return sorted(rows)


def make_table(rows: list[Row]) -> str:
    """The table in Markdown, between its markers."""
    lines = [START, "| # | fault | what happens | test |", "|---|---|---|---|"]
    for row in rows:
        cells = [text.replace("|", "\\|") for text in (row.fault, row.behaviour)]
        lines.append(f"| {row.number} | {cells[0]} | {cells[1]} | [`{row.test}`](../{row.file}) |")
    return "\n".join([*lines, END])


def make_runs(folder: Path) -> str:
    """What the last long runs found, in a line each, between their markers."""
    lines = [RUNS_START]
    if (path := folder / "fuzz.json").is_file():
        found = json.loads(path.read_text("utf-8"))
        refused = sum(outcome.get("refused", 0) for outcome in found["targets"].values())
        lines.append(
            f"- Last `make fuzz`: {found['cases']} cases, of which {refused} were refused, and no other failure."
        )
    if (path := folder / "kill-matrix.json").is_file():
        found = json.loads(path.read_text("utf-8"))
        met = sum(found["killed"].values())
        lines.append(
            f"- Last `make kill-matrix`: {found['kills']} kills, of which {met} met a stage at work "
            f"({found['came_too_late']} came too late); {len(found['different'])} runs ended differently."
        )
    if (path := folder / "soak.json").is_file():
        found = json.loads(path.read_text("utf-8"))
        first, last = found["megabytes"]
        lines.append(
            f"- Last `make soak`: {found['cycles']} cycles; memory {first} MB after a fifth, {last} MB at the end."
        )
    return "\n".join([*lines, RUNS_END])


def renew(page: str) -> str:
    """The page with a table and summaries that are current."""
    before, rest = page.split(RUNS_START)
    page = before + make_runs(PAGE.with_suffix("")) + rest.split(RUNS_END)[1]
    before, rest = page.split(START)
    return before + make_table(read_rows()) + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text("utf-8")), "utf-8")
