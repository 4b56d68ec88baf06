"""The command line `fs4`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import ParamsError, PipelineError
from pipeline.params import parse_params
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger, start_logging
from pipeline.yaml_reader import read_yaml

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
log = get_logger("cli")
PRESETS = Path("presets")
RESULTS = Path("docs/results")
PICTURES = Path("data/compare")


@app.callback()
def _root() -> None:
    """FS4: fully self-supervised semantic segmentation; run it from the project's root."""


@app.command()
def preset(name: str = typer.Argument(help="A file of presets/ without its ending.")) -> None:
    """Print a preset as flags: dvc exp run $(fs4 preset tiny)."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml"))) or "none"
        raise ParamsError(f"{path}: no such preset; known here: {known}")
    overrides = read_yaml(path)
    if not isinstance(overrides, dict):
        raise ParamsError(f"{path}: expected groups of keys as in params.yaml, found {overrides!r}")
    parse_params(merge_overrides(read_yaml(Path("params.yaml")), overrides), name=f"params.yaml with {path}")
    typer.echo(" ".join(f"-S {key}={_spelled(value)}" for key, value in flatten_keys(overrides)))


@app.command()
def record(
    name: str = typer.Argument(help="Name of the record."),
    command: str = typer.Argument(help="What regenerates the run, for the table."),
) -> None:
    """Keep the figures of the run that stands in data/evaluation as docs/results/NAME.json."""
    from pipeline.report.results import record_result

    typer.echo(record_result(name, command, RESULTS))


@app.command()
def results() -> None:
    """Write the table of all records into README.md, between its markers."""
    from pipeline.report.results import replace_table, results_table

    readme = Path("README.md")
    readme.write_text(replace_table(readme.read_text("utf-8"), results_table(RESULTS)), "utf-8")


@app.command()
def compare(
    data: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = PICTURES / "index.html",
) -> None:
    """Compare the recorded baselines on one offline HTML page."""
    from pipeline.report.compare import write_comparison

    typer.echo(write_comparison(RESULTS, PICTURES, out, data))


@app.command()
def clean() -> None:
    """Remove resume state and live curves of unfinished runs; finished outputs stay."""
    from pipeline.runtime.stage import SCRATCH

    with hold(SCRATCH.with_name(f"{SCRATCH.name}.lock"), str(SCRATCH), 0.0):
        size = sum(file.stat().st_size for file in SCRATCH.rglob("*") if file.is_file())
        shutil.rmtree(SCRATCH, ignore_errors=True)
    typer.echo(f"{size / 1e6:.1f} MB removed from {SCRATCH}")


def merge_overrides(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested groups with some values replaced; lists are replaced whole."""
    merged = dict(base)
    for key, value in overrides.items():
        inner = merged.get(key)
        merged[key] = merge_overrides(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def flatten_keys(groups: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full keys and values of nested groups, in order."""
    for key, value in groups.items():
        if isinstance(value, dict):
            yield from flatten_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def main() -> None:
    """Entry point: errors meant for the user are one line and an exit code."""
    start_logging()
    try:
        app()
    except PipelineError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from None


def _spelled(value: Any) -> str:
    """A value without blanks, as the shell must see it."""
    if isinstance(value, list):
        return "[" + ",".join(_spelled(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if any(character.isspace() for character in text):
        raise ParamsError(f"{text!r} has blanks, which the shell would split; presets take values without")
    return text
