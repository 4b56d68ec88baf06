"""The command line `fs4`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import InputError, PipelineError
from pipeline.params import load_params
from pipeline.params.presets import read_presets, spell_flags
from pipeline.runtime.interrupts import Interrupted, StopSignal
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger, start_logging

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
log = get_logger("cli")
RESULTS = Path("docs/results")
PICTURES = Path("data/compare")


@app.callback()
def _root() -> None:
    """FS4: fully self-supervised semantic segmentation; run it from the project's root."""


@app.command()
def preset(
    names: Annotated[
        list[str], typer.Argument(help="Files of presets/ without their ending; where two differ, the last wins.")
    ],
) -> None:
    """Print presets as flags: dvc exp run $(fs4 preset camvid picie)."""
    typer.echo(" ".join(spell_flags(read_presets(names))))


@app.command()
def doctor(
    data_root: Annotated[Path, typer.Argument(help="The folder to look at.")],
    source: Annotated[str, typer.Option(help="How to read it; without it, the layout is recognised.")] = "",
    preset: Annotated[str, typer.Option(help="Presets, as in camvid; without it, that of a recognised protocol.")] = "",
) -> None:
    """Say what a data folder holds, what is wrong with it, and what the graph would cost; reads a few masks for you."""
    from pipeline.doctor.examine import examine_data

    text, healthy = examine_data(data_root, source, load_params(), preset.split())
    typer.echo(text)
    if not healthy:
        raise typer.Exit(InputError.exit_code)


@app.command()
def baselines(
    data: Annotated[str, typer.Option(help="Absolute path of a folder of images; without it, the sample set.")] = "",
    preset: Annotated[str, typer.Option(help="Presets of the data, as in camvid.")] = "",
    seeds: Annotated[str, typer.Option(help="Of pre-training and training, with blanks between.")] = "0",
    only: Annotated[str, typer.Option(help="Baselines to run, with blanks between; without it, all.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Make all experiments again.")] = False,
) -> None:
    """Run the baselines as DVC experiments, record each as it ends, and print the table."""
    from pipeline.experiments.baselines import run_baselines
    from pipeline.report.results import baselines_table

    StopSignal().install()
    runs = run_baselines(data, preset.split(), seeds, only.split(), force=force, results=RESULTS)
    typer.echo(baselines_table(RESULTS, runs[0].data))


@app.command()
def record(
    name: str = typer.Argument(help="Name of the record."),
    command: str = typer.Argument(help="What regenerates the run, for the table."),
    labels: Annotated[
        bool, typer.Option("--labels", help="Keep what probe and finetune found, as docs/results/labels/NAME.json.")
    ] = False,
) -> None:
    """Keep the figures of the run that stands in data/evaluation as docs/results/NAME.json."""
    from pipeline.report.label_results import record_labels
    from pipeline.report.results import record_result

    typer.echo((record_labels if labels else record_result)(name, command, RESULTS))


@app.command()
def results() -> None:
    """Write the tables of all records into README.md and docs/labels.md, between their markers."""
    from pipeline.report.label_results import write_label_tables
    from pipeline.report.results import replace_table, results_table

    write_label_tables(Path("docs/labels.md"), RESULTS)
    readme = Path("README.md")
    readme.write_text(replace_table(readme.read_text("utf-8"), results_table(RESULTS)), "utf-8")


@app.command()
def suggest_k(
    ks: str | None = typer.Option(None, help="Numbers of clusters, such as 2..12,16,20; left out: some from 2 to 40."),
    level: int | None = typer.Option(None, help="Pyramid level whose cells are clustered; left out: the finest."),
    rounds: int = typer.Option(16, min=2, help="Random divisions of the images; more are steadier and slower."),
    cells: int = typer.Option(8000, min=100, help="Cells used at most; more are steadier and slower."),
    seed: int = typer.Option(0, min=0, help="Determines every random choice."),
) -> None:
    """Suggest train.k without labels, from how stable clusterings of data/features are; writes data/suggest_k."""
    from pipeline.report import suggestion

    typer.echo(suggestion.suggest_k(ks, level, rounds, cells, seed, load_params().run))


@app.command()
def compare(
    data: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = PICTURES / "index.html",
) -> None:
    """Compare the recorded baselines on one offline HTML page."""
    from pipeline.report.compare import write_comparison

    typer.echo(write_comparison(RESULTS, PICTURES, out, data))


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="Folder of label maps: PNG files of cluster ids.")],
    truth: Annotated[Path, typer.Argument(help="Folder of masks of the same names; with --protocol, the download.")],
    classes: Annotated[Path | None, typer.Option(help="A classes.json; without it, the ids that occur.")] = None,
    protocol: Annotated[str, typer.Option(help="A published protocol, such as coco-stuff-27.")] = "",
    split: Annotated[str, typer.Option(help="With --protocol: val, train+val, picie…")] = "val",
    ids: Annotated[Path | None, typer.Option(help="With --protocol: list of the names to score.")] = None,
    full: Annotated[bool, typer.Option("--full", help="With --protocol: whole masks as stored.")] = False,
    match: Annotated[str, typer.Option(help="Rule: hungarian, majority or hungarian+majority.")] = "hungarian",
    match_from: Annotated[Path | None, typer.Option(help="Folder of an earlier result, whose match is used.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for metrics.json and protocol.json.")] = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="Compute boundary F1 as well.")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="Bring predictions to the size of their masks.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Determines the resampling of images.")] = 0,
) -> None:
    """Score label maps of any method, as stage evaluate would."""
    from pipeline.evaluation.scoring import OfficialRequest, score_folders

    table = score_folders(
        predictions,
        truth,
        classes_file=classes,
        official=OfficialRequest(protocol, split, ids, full),
        rule=match,
        match_from=match_from,
        output=output,
        boundary=boundary,
        resize=resize,
        seed=seed,
    )
    typer.echo(table)


@app.command()
def score_seeds(
    results: Annotated[list[Path], typer.Argument(help="What `fs4 score --output` wrote, one folder for each seed.")],
) -> None:
    """Join the scores of several seeds of any method: mean ± sd, if all were scored under one protocol."""
    from pipeline.evaluation.seeds import join_seeds

    typer.echo(join_seeds(results))


@app.command()
def name(
    file: Annotated[Path, typer.Option(help="The names file to write.")] = Path("names.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing names file.")] = False,
    check: Annotated[Path | None, typer.Option(help="Only check this names file.")] = None,
    apply: Annotated[Path | None, typer.Option(help="Write label maps with the names of this file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The folder for --apply.")] = None,
) -> None:
    """Give the clusters of data/evaluation names: write a file to edit, check it, apply it to the label maps."""
    from pipeline.labels.naming import name_clusters

    typer.echo(name_clusters(file, force=force, check=check, apply=apply, output=output))


@app.command()
def report(
    names: Annotated[Path, typer.Option(help="A names file, as `fs4 name` writes it.")] = Path("names.yaml"),
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("data/labels/report.html"),
) -> None:
    """Write the report once more, with names of the clusters; the page of stage report stays as it is."""
    from pipeline.report.named_report import write_named_report

    typer.echo(write_named_report(names, out, load_params().report))


@app.command()
def labels_report(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("data/labels/index.html"),
) -> None:
    """Show what the optional stages probe and finetune found on one offline HTML page."""
    from pipeline.report.labels_page import write_labels_page

    typer.echo(write_labels_page(out))


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="Folders, files, or patterns in quotes such as 'a/**/*.jpg'.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    model: Annotated[Path, typer.Option(help="The output of stage train, or a copy.")] = Path("data/segmenter"),
    names: Annotated[Path | None, typer.Option(help="A names file; clusters of one name become one class.")] = None,
    resize: Annotated[int | None, typer.Option(help="Short side in pixels, 0: as it is; else as in training.")] = None,
    window: Annotated[int, typer.Option(help="Side of a window in pixels, a multiple of 32; 0: chosen.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed together.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images are refused.")] = 100_000_000,
    overlays: Annotated[bool, typer.Option(help="Whether to write overlays.")] = True,
) -> None:
    """Segment images of any size with a trained model."""
    from pipeline.export.loading import load_segmenter
    from pipeline.export.predict import predict_images

    StopSignal().install()
    segmenter = load_segmenter(model, device=device, resize=resize, window=window)
    typer.echo(
        predict_images(
            images, segmenter, out, names=names, batch_size=batch_size, max_pixels=max_pixels, overlays=overlays
        )
    )


@app.command()
def export(
    model: Annotated[Path, typer.Option(help="The output of stage train.")] = Path("data/segmenter"),
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("data/export"),
    output: Annotated[str, typer.Option(help="What the graph gives: labels or logits.")] = "labels",
    names: Annotated[Path | None, typer.Option(help="A names file, kept in the metadata.")] = None,
    int8: Annotated[bool, typer.Option(help="Whether to write an 8-bit copy as well.")] = True,
    calibration: Annotated[int, typer.Option(min=1, help="Train images that give its ranges.")] = 100,
    images: Annotated[int, typer.Option(min=0, help="Images compared at most; 0: all.")] = 500,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Keep files that fail the comparison.")] = False,
) -> None:
    """Write the model as ONNX, check it against the trained one, and write a model card."""
    from pipeline.export.export import ExportOptions, export_model

    StopSignal().install()
    options = ExportOptions(output, names, int8, calibration, images, keep_failed)
    typer.echo(export_model(model, Path("data/prepared"), Path("data/evaluation"), out, options))


@app.command()
def clean() -> None:
    """Remove resume state and live curves of unfinished runs, and kept features; finished outputs stay."""
    from pipeline.runtime.stage import SCRATCH

    with hold(SCRATCH.with_name(f"{SCRATCH.name}.lock"), str(SCRATCH), 0.0):
        size = sum(file.stat().st_size for file in SCRATCH.rglob("*") if file.is_file())
        shutil.rmtree(SCRATCH, ignore_errors=True)
    typer.echo(f"{size / 1e6:.1f} MB removed from {SCRATCH}")


def main() -> None:
    """Entry point: errors meant for the user are one line and an exit code."""
    start_logging()
    try:
        app()
    except PipelineError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from None
    except Interrupted as interrupted:
        log.error("stopped by %s; run again to go on from what is finished", interrupted)
        raise SystemExit(interrupted.exit_code) from None
