"""What `fs4 report` does: the report once more, with names that people gave the clusters.

Names are no input of the graph. They are written after looking at a finished report, and belong to that training: as a
parameter they would stop the next run, whose clusters are others.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.data.manifest import read_images
from pipeline.labels.names import read_names
from pipeline.params import ReportParams
from pipeline.report.inputs import ReportInputs
from pipeline.report.page import build_report
from pipeline.runtime.artifacts import MANIFEST, open_artifact, replace_file
from pipeline.runtime.places import check_page

DATA = Path("data")


def write_named_report(file: Path, out: Path, params: ReportParams) -> str:
    """Write the page of stage `report` with the names of a file.

    Args:
        file: The names file.
        out: The HTML file; outside of the stages' outputs.
        params: Group `report`.

    Returns:
        What was done, in one line.

    Raises:
        ParamsError: The names file is wrong or of another training, or `out` is no name of a page.
        InputError: An output of the graph is missing or altered, or `out` lies in one.
    """
    check_page(out, "--out")
    evaluation = open_artifact(DATA / "evaluation")
    names = read_names(file, evaluation)
    manifests = [DATA / name / MANIFEST for name in ("prepared", "features")]
    inputs = ReportInputs(
        images=read_images(DATA / "prepared/images.parquet"),
        backbone=open_artifact(DATA / "backbone"),
        pseudo_labels=open_artifact(DATA / "pseudo_labels"),
        segmenter=open_artifact(DATA / "segmenter"),
        evaluation=evaluation,
        manifests=tuple(json.loads(path.read_text("utf-8")) for path in manifests if path.is_file()),
    )
    replace_file(out, build_report(inputs, params, names).encode())
    return f"{len(names.of_cluster)} clusters with {len(names.distinct)} names in {out}"
