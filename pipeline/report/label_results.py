"""Records of what labels bought, and the tables that docs/labels.md shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.report.labels_page import CURVES, PROBES, read_found
from pipeline.report.results import put_between, read_records, record_path, write_record
from pipeline.runtime.artifacts import open_artifact

FOLDER = "labels"  # below the other records
START, END = "<!-- labels: `fs4 results` -->", "<!-- end of labels -->"
PROBE_HEADER = (
    "| run | map | images learnt | images scored | linear: mIoU | linear: accuracy | k-NN: mIoU | k-NN: accuracy |\n"
    "|---|---|---|---|---|---|---|---|"
)
CURVE_HEADER = (
    "| run | map | labelled images | share, % | pre-trained: mIoU | random weights: mIoU | seeds |\n"
    "|---|---|---|---|---|---|---|"
)


def record_labels(name: str, command: str, results: Path) -> Path:
    """Keep what now stands in `data/probe` and `data/finetune`.

    Args:
        name: The record's name: small letters, digits and dashes.
        command: What regenerates the run.
        results: Where records lie; these get a folder in it.

    Returns:
        The file that was written.

    Raises:
        ParamsError: The name is not a plain one.
        InputError: Neither stage has run.
    """
    path = record_path(name, results / FOLDER)
    probes, curves = read_found(PROBES, "probe.json"), read_found(CURVES, "curve.json")
    if not probes and not curves:
        raise InputError(f"{PROBES} and {CURVES}: nothing here to record; run stages probe or finetune first")
    first = open_artifact(PROBES / probes[0]["map"] if probes else CURVES / curves[0]["map"])
    record = {
        "command": command,
        "probe": probes,
        "finetune": curves,
        "versions": first.manifest["versions"],
        "machine": first.manifest["machine"],
    }
    write_record(path, record)
    return path


def label_tables(folder: Path) -> str:
    """The records as Markdown: probes, few labels, and what makes each again.

    Raises:
        InputError: A file there is not such a record.
    """
    probes, curves, commands = [], [], []
    for path, record in read_records(folder):
        try:
            probes += [_probe_row(path.stem, found) for found in record["probe"]]
            curves += [row for found in record["finetune"] for row in _curve_rows(path.stem, found)]
            commands.append(f"- {path.stem}: `{record['command']}`")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not a record of labels ({error!r}); write it with `fs4 record --labels`, or remove it"
            ) from None
    parts = [[PROBE_HEADER, *probes] if probes else [], [CURVE_HEADER, *curves] if curves else [], commands]
    return "\n\n".join("\n".join(part) for part in parts if part)


def write_label_tables(page: Path, results: Path) -> None:
    """Put the tables into a Markdown page, between its markers.

    Raises:
        InputError: The markers are missing, or a record is none.
    """
    tables = label_tables(results / FOLDER)
    page.write_text(put_between(page.read_text("utf-8"), tables, START, END, page.name), "utf-8")


def _probe_row(name: str, found: Mapping[str, Any]) -> str:
    cells = [name, found["map"], f"{found['learnt_images']}", f"{found['scored_images']} {found['split']}"]
    for kind in ("linear", "knn"):
        figures = found["probes"].get(kind, {}).get("all")
        cells += [f"{figures[key]:.1f}" if figures else "–" for key in ("miou", "pixel_accuracy")]
    return "| " + " | ".join(cells) + " |"


def _curve_rows(name: str, found: Mapping[str, Any]) -> list[str]:
    rows = []
    for images in sorted({mean["images"] for mean in found["means"]}):
        means = {mean["start"]: mean for mean in found["means"] if mean["images"] == images}
        seeds = means["pretrained"]["seeds"]
        share = 100 * images / found["labelled_images"]
        figures = [
            f"{means[start]['miou_mean']:.1f}" + (f" ± {means[start]['miou_sd']:.1f}" if seeds > 1 else "")
            for start in ("pretrained", "random")
        ]
        cells = [name, found["map"], str(images), f"{share:.3g}", *figures, str(seeds)]
        rows.append("| " + " | ".join(cells) + " |")
    return rows
