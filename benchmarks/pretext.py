"""Measures pretext methods against each other: `python -m benchmarks.pretext --help`.

Every method trains in a temporary clone of the last commit, one by one. Each result is kept at once as a record
and in the table of docs/pretext.md. Methods that have one are not run again, so that a comparison can be spread over
several sittings; with --full, those are that lack the whole method on top.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
import yaml

from pipeline.errors import ParamsError, PipelineError
from pipeline.params import parse_params
from pipeline.params.presets import merge_overrides, read_presets
from pipeline.report.results import put_between, write_record
from pipeline.yaml_reader import read_yaml

RECORDS, PAGE = Path("docs/results/pretext"), Path("docs/pretext.md")
START, END = "<!-- pretext table: `python -m benchmarks.pretext` -->", "<!-- end of pretext table -->"
# A step's work per image: 3 for a view that is encoded with gradient, 1 without; small views by their area
WORK = {
    "dense_clusters": 6.0,
    "global_dense": 6.0,
    "simclr": 6.0,
    "moco": 9.0,
    "densecl": 9.0,
    "pixpro": 8.0,
    "byol": 8.0,
    "simsiam": 6.0,
    "barlow": 6.0,
    "vicreg": 6.0,
    "dino": 10.7,
    "simmim": 6.0,
    "mae": 4.0,
    "rotation": 15.0,
    "jigsaw": 5.0,
    "colorization": 6.0,
}
METHODS = ["none", *WORK]
OTHER_BACKBONE = {"mae": "vit_small_patch16"}  # which drops patches
BRIEF = {"evaluate": {"floor_seeds": 1, "floor_restarts": 1}}  # floors are the same for all methods, and not looked at
LABEL_FREE = {"image_match": "image match", "place_match": "place match", "effective_rank": "effective rank"}
FEWEST = 8  # methods among which a rank correlation says something
HEADER = (
    "| method | epochs | image match | place match | effective rank | k-means | linear probe | fs4 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def plan_epochs(method: str, epochs: int, equal: str) -> int:
    """Epochs of a method: `epochs` of the default method, or as many as cost the same work."""
    if equal == "epochs" or method == "none":
        return epochs
    return max(1, round(epochs * WORK["dense_clusters"] / WORK[method]))


def run_stages(clone: Path, params: dict[str, Any], *stages: str) -> float:
    """Run stages with these parameters; wall-clock seconds.

    Raises:
        SystemExit: A stage failed, for the reason that it printed.
    """
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")
    started = time.monotonic()
    for stage in stages:
        code = subprocess.run([sys.executable, "-m", *f"stages.{stage}".split()], cwd=clone, check=False).returncode
        if code:
            raise SystemExit(code)
    return time.monotonic() - started


def score(clone: Path) -> dict[str, float]:
    """Mean over the final clusterings of the evaluated run."""
    draws = json.loads((clone / "data/evaluation/metrics.json").read_text("utf-8"))["draws"]
    return {key: draws[key] for key in ("miou_mean", "miou_sd", "pixel_accuracy_mean")}


def measure(
    clone: Path, params: dict[str, Any], method: str, frozen: dict[str, Any], full: dict[str, Any] | None
) -> dict[str, Any]:
    """Train one method and score what comes out.

    Args:
        clone: Where data are prepared already.
        params: With the method and its epochs.
        method: Its name.
        frozen: Overrides under which the frozen features are clustered.
        full: Overrides of a training of the segmenter on top; None leaves it out.

    Returns:
        The record.
    """
    seconds = run_stages(clone, params, "pretrain")
    told = json.loads((clone / "data/backbone/pretext.json").read_text("utf-8"))
    run_stages(clone, merge_overrides(params, frozen), "extract", "cluster", "train", "evaluate")
    record = {"method": method, "pretrain": params["pretrain"], "seconds": round(seconds, 1), "label_free": told}
    record["kmeans"] = score(clone)
    run_stages(clone, merge_overrides(params, {"probe": {"kinds": ["linear"]}}), "probe backbone")
    probes = json.loads((clone / "data/probe/backbone/probe.json").read_text("utf-8"))["probes"]
    record["linear"] = probes["linear"]["all"]
    if full is not None:
        run_stages(clone, merge_overrides(params, full), "train", "evaluate")
        record["fs4"] = score(clone)
    return record


def format_table(records: list[dict[str, Any]]) -> str:
    """The records as Markdown, best frozen features first."""
    lines = [HEADER]
    for record in sorted(records, key=lambda record: -record["kmeans"]["miou_mean"]):
        told = record["label_free"]
        cells = [
            f"`{record['method']}`",
            str(told["epochs"]),
            *(f"{told[key]:.2f}" if key in told else "–" for key in ("image_match", "place_match")),
            f"{told['effective_rank']:.1f}" if "effective_rank" in told else "–",
            _spread(record["kmeans"]),
            f"{record['linear']['miou']:.1f}",
            _spread(record["fs4"]) if "fs4" in record else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def is_measured(path: Path, epochs: int, equal: str, *, full: bool) -> bool:
    """Whether a record holds what is asked for.

    Args:
        path: The record, which may be missing.
        epochs: Of the method.
        equal: What is equal among methods.
        full: Whether the whole method on top is asked for.

    Raises:
        ParamsError: The record is of other settings, whose figures must not stand in one table with these.
    """
    if not path.exists():
        return False
    record = json.loads(path.read_text("utf-8"))
    found = (record["pretrain"]["epochs"], record["equal"])
    if found != (epochs, equal):
        raise ParamsError(
            f"{path}: of {found[0]} epochs (equal {found[1]}), not {epochs} (equal {equal}); give the same settings, "
            "another NAME, or --force, which runs it again"
        )
    return not full or "fs4" in record


def format_tables(folder: Path) -> str:
    """A table for every kind of data and seed that there are records of."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    groups = sorted({(record["data"], record["seed"]) for record in records})
    parts = []
    for data, seed in groups:
        chosen = [record for record in records if (record["data"], record["seed"]) == (data, seed)]
        parts.append(f"`{data}`, seed {seed}, equal {chosen[0]['equal']}:\n\n{format_table(chosen)}")
        if line := _foretelling(chosen):
            parts.append(line)
    return "\n\n".join(parts)


def _foretelling(records: list[dict[str, Any]]) -> str:
    """How far label-free figures order the methods as the scores do; empty for fewer than `FEWEST` of them."""
    measured = [record for record in records if set(LABEL_FREE) <= set(record["label_free"])]
    if len(measured) < FEWEST:
        return ""
    ranks = pd.DataFrame(
        [
            {key: record["label_free"][key] for key in LABEL_FREE}
            | {"k-means": record["kmeans"]["miou_mean"], "linear probe": record["linear"]["miou"]}
            for record in measured
        ]
    ).rank()
    found = [
        f"{name} {ranks[key].corr(ranks['k-means']):.2f} and {ranks[key].corr(ranks['linear probe']):.2f}"
        for key, name in LABEL_FREE.items()
    ]
    return f"Rank correlation with k-means and with the linear probe, over {len(measured)} rows: {', '.join(found)}."


def write_page() -> None:
    """Put the tables of all records into docs/pretext.md."""
    text = put_between(PAGE.read_text("utf-8"), format_tables(RECORDS), START, END, str(PAGE))
    PAGE.write_text(text, "utf-8")


def _spread(scores: dict[str, float]) -> str:
    return f"{scores['miou_mean']:.1f} ± {scores['miou_sd']:.1f}"


def main(
    name: Annotated[str, typer.Argument(help="What the data are called in the records, as in camvid.")],
    data: Annotated[
        str, typer.Option(help="Absolute path of a folder of images and masks; left out: the sample.")
    ] = "",
    preset: Annotated[str, typer.Option(help="Presets of the data, as in camvid.")] = "",
    methods: Annotated[str, typer.Option(help="Methods with blanks between; left out: all but mae, a ViT.")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the default method.")] = 25,
    equal: Annotated[str, typer.Option(help="What is equal: epochs, or work (encoded views).")] = "work",
    full: Annotated[bool, typer.Option("--full", help="Train the segmenter on top as well.")] = False,
    published: Annotated[bool, typer.Option("--published", help="Apply presets/pretext-METHOD.yaml, too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of pre-training.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Run methods again that have a record.")] = False,
) -> None:
    """Compare pretext methods on the same data, and put the tables of all records into docs/pretext.md."""
    chosen = methods.split() or [method for method in METHODS if method not in OTHER_BACKBONE]
    if unknown := [method for method in chosen if method not in METHODS]:
        raise ParamsError(f"{unknown[0]}: no such method; there are {', '.join(METHODS)}")
    if equal not in ("epochs", "work"):
        raise ParamsError(f"--equal {equal}: give epochs or work")
    base, frozen = read_yaml(Path("params.yaml")), read_presets(["features"])
    on_top = read_presets(["fs4"]) if full else None
    place = {"data": {"source": "folder", "root": data}} if data else {}
    with tempfile.TemporaryDirectory(prefix="fs4-pretext-") as folder:
        clone = Path(folder, "clone")
        prepared = False
        for method in chosen:
            suffix = f"-s{seed}" if seed else ""
            path = RECORDS / f"{name}-{method}{suffix}.json"
            planned = plan_epochs(method, epochs, equal)
            if not force and is_measured(path, planned, equal, full=full):
                continue
            presets = [*preset.split(), *([f"pretext-{method}"] if published and method in WORK else [])]
            own = {"pretrain": {"method": method, "epochs": planned, "seed": seed}}
            if method in OTHER_BACKBONE:
                own["pretrain"]["backbone"] = OTHER_BACKBONE[method]
            params = merge_overrides(base, read_presets(presets) if presets else {})
            params = merge_overrides(merge_overrides(merge_overrides(params, place), BRIEF), own)
            parse_params(params)
            if not prepared:
                subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
                run_stages(clone, params, "prepare")
                prepared = True
            record = measure(clone, params, method, frozen, on_top) | {"data": name, "equal": equal, "seed": seed}
            write_record(path, record)
            write_page()
    write_page()
    typer.echo(format_tables(RECORDS))


if __name__ == "__main__":
    try:
        typer.run(main)
    except PipelineError as error:
        sys.exit(str(error))
