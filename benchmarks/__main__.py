"""Runs the benchmarks: `python -m benchmarks`, or some parts of them; `--table` writes what was measured into the docs.

Every part prints its table and leaves it in docs/results/bench/PART.json. Ratios are of processor seconds.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import stages  # noqa: F401  (sets how threads wait and what is done with freed memory, as in every stage)
from benchmarks.measuring import Cost, Row
from benchmarks.tables import PARTS, RESULTS, markdown, write_table


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}; without it, all.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, faiss and BLAS.")] = 1,
    table: Annotated[bool, typer.Option("--table", help="Only write docs/speed.md anew.")] = False,
) -> None:
    """Measure, print and record; then write the tables of docs/speed.md."""
    for name in [] if table else part or list(PARTS):
        if name not in PARTS:
            raise typer.BadParameter(f"{name}: no such part; known are {', '.join(PARTS)}")
        _limit_threads(threads)
        rows: list[Row | Cost] = import_module(f"benchmarks.{name}").measure_rows()
        _record(name, rows, threads)
        typer.echo(f"{PARTS[name]}\n{markdown([{**asdict(row), 'met': row.met} for row in rows])}\n")
    write_table()


def _limit_threads(threads: int) -> None:
    import faiss
    import torch

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


def _record(name: str, rows: Sequence[Row | Cost], threads: int) -> None:
    from pipeline.runtime.stage import library_versions

    record = {
        "rows": [{**asdict(row), "met": row.met} for row in rows],
        "threads": threads,
        "processor": _processor(),
        "versions": library_versions(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (RESULTS / f"{name}.json").write_text(f"{text}\n", "utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    # BLAS reads this when it is loaded, which is when the parts import it
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    typer.run(main)
