"""One row of numbers per epoch: kept in checkpoints, written as CSV, and shown live while the run goes on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.runtime.artifacts import replace_file


class Curves:
    """The history of a training.

    Args:
        live: A CSV file that is rewritten after every epoch, because the output folder appears only at the end;
            None keeps no live copy.
    """

    def __init__(self, live: Path | None) -> None:
        self.rows: list[dict[str, float]] = []
        self._live = live

    def append(self, row: dict[str, float]) -> None:
        """Add the numbers of the next epoch."""
        self.rows.append(row)
        if self._live:
            self.write(self._live)

    def replay(self, rows: list[dict[str, float]]) -> None:
        """Take over the rows of an interrupted run in place of those that are here."""
        self.rows.clear()
        for row in rows:
            self.append(row)

    def write(self, path: Path) -> None:
        """Write CSV: `epoch` first (counted from 1), then every other column in order of first appearance."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["epoch", *columns], restval="", lineterminator="\n")
        writer.writeheader()
        for epoch, row in enumerate(self.rows, 1):
            writer.writerow({"epoch": epoch, **{key: f"{value:.6g}" for key, value in row.items()}})
        replace_file(path, text.getvalue().encode())
