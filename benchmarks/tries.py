"""Measures variants of the method, each against one start: `python -m benchmarks.tries --help`.

What is tried stands in benchmarks/tries.yaml. All runs are made in a temporary clone of the last commit, where DVC
repeats only the stages that a variant changes. Each result is kept at once as a record and in the table of
docs/method.md; variants that have a record are not run again, so that the table can grow over several sittings.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipeline.errors import ParamsError, PipelineError
from pipeline.experiments.workspace import stage_environment
from pipeline.params import parse_params
from pipeline.params.presets import flatten_keys, merge_overrides, read_presets, spell_flags
from pipeline.report.results import put_between, write_record
from pipeline.yaml_reader import read_yaml

LIST, RECORDS, PAGE = Path("benchmarks/tries.yaml"), Path("docs/results/tries"), Path("docs/method.md")
START, END = "<!-- tries: `python -m benchmarks.tries` -->", "<!-- end of tries -->"
HEADER = "| tried | switches | accuracy | mIoU | against the start | things | stuff |\n|---|---|---|---|---|---|---|"
BEGINNING = "start"


def read_tries(path: Path = LIST) -> dict[str, tuple[str, dict[str, Any]]]:
    """Group and overrides of every variant, by name, in the order of the file."""
    groups = {group: variants for group, variants in read_yaml(path).items() if group != BEGINNING}
    return {name: (group, _nest(switches)) for group, variants in groups.items() for name, switches in variants.items()}


def read_start(path: Path = LIST) -> dict[str, Any]:
    """What all variants change."""
    return _nest(read_yaml(path)[BEGINNING])


def _nest(switches: dict[str, Any]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for key, value in switches.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        overrides = merge_overrides(overrides, value)
    return overrides


def measure(clone: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Bring the clone up to date with these parameters, and collect its scores.

    Args:
        clone: A clone of the project, with or without results of earlier runs.
        params: Of the variant.

    Returns:
        Scores over the final clusterings, seconds, libraries and machine.

    Raises:
        SystemExit: A stage failed, for the reason that it printed.
    """
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")
    started = time.monotonic()
    repro = [sys.executable, "-m", "dvc", "repro", "evaluate"]
    code = subprocess.run(repro, cwd=clone, env=stage_environment(), check=False).returncode
    if code:
        raise SystemExit(code)
    seconds = time.monotonic() - started
    draws = json.loads((clone / "data/evaluation/metrics.json").read_text("utf-8"))["draws"]
    manifest = json.loads((clone / "data/evaluation/manifest.json").read_text("utf-8"))
    return {"draws": draws, "seconds": round(seconds, 1), **{key: manifest[key] for key in ("versions", "machine")}}


def format_tables(folder: Path, tries: dict[str, tuple[str, dict[str, Any]]]) -> str:
    """The records as Markdown: a table for every kind of data and seed, in the order of the list."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    parts = []
    for data, seed in sorted({(record["data"], record["seed"]) for record in records}):
        chosen = {record["name"]: record for record in records if (record["data"], record["seed"]) == (data, seed)}
        lines = [HEADER]
        for name, (group, overrides) in tries.items():
            if name in chosen:
                switches = " ".join(spell_flags(overrides)[1::2])
                lines.append(_row(group, switches, chosen[name]["draws"], chosen.get(BEGINNING, {}).get("draws")))
        commits = ", ".join(sorted({f"`{record['commit']}`" for record in chosen.values()}))
        parts.append(f"`{data}`, training seed {seed}, at {commits}:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _row(group: str, switches: str, draws: dict[str, Any], start: dict[str, Any] | None) -> str:
    against = f"{draws['miou_mean'] - start['miou_mean']:+.1f}" if start and switches else "–"
    cells = [
        group,
        f"`{switches}`" if switches else "–",
        f"{draws['pixel_accuracy_mean']:.1f}",
        f"{draws['miou_mean']:.1f} ± {draws['miou_sd']:.1f}",
        against,
        *("–" if draws.get(key) is None else f"{draws[key]:.1f}" for key in ("things_miou_mean", "stuff_miou_mean")),
    ]
    return f"| {' | '.join(cells)} |"


def main(
    name: Annotated[str, typer.Argument(help="What the data are called in the records, as in camvid.")],
    data: Annotated[
        str, typer.Option(help="Absolute path of a folder of images and masks; left out: the sample.")
    ] = "",
    preset: Annotated[str, typer.Option(help="Presets of the data, as in camvid.")] = "",
    only: Annotated[str, typer.Option(help="Variants with blanks between; left out: all.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of training.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Run variants again that have a record.")] = False,
) -> None:
    """Try variants of the method on the same data, and put the tables of all records into docs/method.md."""
    tries = read_tries()
    if unknown := [variant for variant in only.split() if variant not in tries]:
        raise ParamsError(f"{unknown[0]}: no such variant; {LIST} has {', '.join(tries)}")
    base = merge_overrides(read_yaml(Path("params.yaml")), read_presets([*preset.split(), "fs4"]))
    base = merge_overrides(base, {"data": {"source": "folder", "root": data}} if data else {})
    base = merge_overrides(merge_overrides(base, read_start()), {"train": {"seed": seed}})
    chosen = only.split() or list(tries)
    for variant in chosen:
        parse_params(merge_overrides(base, tries[variant][1]))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="fs4-tries-") as folder:
        clone = Path(folder, "clone")
        for variant in chosen:
            path = RECORDS / f"{name}-{variant}{f'-s{seed}' if seed else ''}.json"
            if path.exists() and not force:
                continue
            if not clone.exists():
                subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
            overrides = tries[variant][1]
            record = measure(clone, merge_overrides(base, overrides))
            noted = {"data": name, "name": variant, "seed": seed, "commit": commit}
            write_record(path, record | noted | {"switches": dict(flatten_keys(overrides))})
            tables = put_between(PAGE.read_text("utf-8"), format_tables(RECORDS, tries), START, END, str(PAGE))
            PAGE.write_text(tables, "utf-8")
    typer.echo(format_tables(RECORDS, tries))


if __name__ == "__main__":
    try:
        typer.run(main)
    except PipelineError as error:
        sys.exit(str(error))
