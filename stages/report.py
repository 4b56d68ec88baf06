"""Gathers what all stages found in one offline HTML page, and copies the metrics to the project's root."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.data.manifest import read_images
from pipeline.report.inputs import ReportInputs
from pipeline.report.page import build_report
from pipeline.runtime.artifacts import read_manifest, replace_file
from pipeline.runtime.stage import Stage, run_stage

IMAGES = "data/prepared/images.parquet"
BACKBONE = "data/backbone"
PSEUDO_LABELS = "data/pseudo_labels"
SEGMENTER = "data/segmenter"
EVALUATION = "data/evaluation"
MANIFESTS = ("data/prepared/manifest.json", "data/features/manifest.json")  # of these, the parameters are shown
METRICS = Path("metrics.json")


def report(stage: Stage) -> None:
    """Write `index.html`, and `metrics.json` in the root as a copy of the evaluation's."""
    inputs = ReportInputs(
        images=read_images(Path(IMAGES)),
        backbone=stage.inputs[BACKBONE],
        pseudo_labels=stage.inputs[PSEUDO_LABELS],
        segmenter=stage.inputs[SEGMENTER],
        evaluation=stage.inputs[EVALUATION],
        manifests=tuple(read_manifest(Path(path).parent) for path in MANIFESTS),
    )
    page = build_report(inputs, stage.params.report).encode()
    (stage.out.path / "index.html").write_bytes(page)
    replace_file(METRICS, inputs.evaluation.file("metrics.json").read_bytes())
    stage.counts |= {"images": len(inputs.images.rows), "megabytes": round(len(page) / 1e6, 2)}


def main() -> None:
    """Write data/report/index.html and metrics.json; the parameters are group `report` of params.yaml."""
    run_stage(
        "report",
        report,
        groups=("report",),
        inputs=(IMAGES, *MANIFESTS, BACKBONE, PSEUDO_LABELS, SEGMENTER, EVALUATION),
        out="data/report",
    )


if __name__ == "__main__":
    typer.run(main)
