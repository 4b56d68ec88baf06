"""`fs4 export`: the trained segmenter as ONNX files that were checked against it, with a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.data.loading import FrameDataset
from pipeline.data.manifest import read_images
from pipeline.errors import ParamsError, PipelineError
from pipeline.export.card import write_card
from pipeline.export.compared import choose_images, scored_split
from pipeline.export.figures import REQUIRED, figures_table, gather_figures
from pipeline.export.graph import OUTPUTS, build_graph
from pipeline.export.onnx_files import OPSET, quantise, require_onnx, simplify, spare_choices, write_onnx
from pipeline.export.parity import Agreement, measure_agreement, measure_latencies, run_onnx, run_torch
from pipeline.export.predict import check_folder
from pipeline.labels.names import Names, load_names, segmentation_by
from pipeline.params import STRIDE
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact, write_json
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger
from pipeline.segmentation.model import Segmenter, load_segmenter

log = get_logger("export")
MAKER = "fs4 export"
CACHE = 512 * 10**6  # bytes of decoded images


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how it is checked.

    Attributes:
        output: labels (the best cluster of each pixel) or logits (scores of all clusters).
        names: A names file, kept in the metadata.
        int8: Whether an 8-bit copy is made.
        calibration: Train images that give the ranges of its activations.
        images: Evaluation images on which labels are compared at most; 0: all.
        keep: Whether files are kept that fail the comparison.
    """

    output: str
    names: Path | None
    int8: bool
    calibration: int
    images: int
    keep: bool


def export_model(model: Path, prepared: Path, evaluation: Path, out: Path, options: ExportOptions) -> str:
    """Write `model.onnx`, `model-int8.onnx`, `figures.json` and `MODEL_CARD.md` into a folder that appears as a whole.

    Args:
        model: The output of stage `train`.
        prepared: The output of stage `prepare`: train images for calibration, evaluation images for the comparison.
        evaluation: The output of stage `evaluate`: the split that it scored, and its figures for the card; of another
            model or missing, it is left out.
        out: The folder to make; an earlier result of this command is replaced.
        options: What and how.

    Returns:
        The figures as a table.

    Raises:
        ParamsError: An option has no use, or the names file is wrong.
        InputError: A library or an input is missing, or `out` holds something else.
        PipelineError: Too few pixels are labelled alike.
    """
    if options.output not in OUTPUTS:
        raise ParamsError(f"--output {options.output}: give {' or '.join(OUTPUTS)}")
    require_onnx()
    check_folder(out, MAKER)
    artifact = open_artifact(model)
    segmenter = load_segmenter(artifact)
    table = read_images(prepared / "images.parquet")
    dataset = FrameDataset(table.select(None), table, CACHE)
    chosen = choose_images(dataset.rows, options.calibration, options.images, scored_split(evaluation, artifact))
    train, compared = chosen.calibration, chosen.compared
    with hold(out.with_name(f".{out.name}.lock"), str(out), 0.0), create_artifact(out) as writer:
        writer.notes |= {"made_by": MAKER, "segmentation": segmentation_by(artifact)}
        log.info("writing ONNX (opset %d)", OPSET)
        notes = _notes(artifact, segmenter, options, table.frame.resize)
        fp32 = writer.path / "model.onnx"
        channels = dataset[train[0]].shape[0]
        write_onnx(build_graph(segmenter, options.output, channels), fp32, channels=channels, notes=notes)
        files, spared = [fp32], 0
        reference = run_torch(segmenter)
        if options.int8:
            log.info("quantising, with ranges of %d train images", len(train))
            files.append(writer.path / "model-int8.onnx")
            spared = _quantise(files[1], fp32, dataset, train, reference)
        log.info("comparing the labels of %d images of split %s", len(compared), chosen.split)
        agreements = {
            file.name: measure_agreement(reference, run_onnx(file, torch.get_num_threads()), dataset, compared)
            for file in files
        }
        log.info("measuring latency")
        latencies = measure_latencies(segmenter, files, dataset[compared[0]].numpy())
        sizes = {"torch": artifact.file("weights.safetensors").stat().st_size}
        sizes |= {file.name: file.stat().st_size for file in files}
        figures = gather_figures(agreements, latencies, sizes, dataset.sizes[compared[0]])
        figures["split"] = chosen.split
        figures["int8_nodes_in_fp32"] = spared
        failed = [name for name, found in agreements.items() if found.share < REQUIRED[name]]
        write_json(writer.path / "figures.json", figures | {"passed": not failed})
        write_card(writer.path / "MODEL_CARD.md", artifact, prepared, evaluation, notes, figures)
        if failed and not options.keep:
            raise PipelineError(_explain(failed, agreements))
    return "\n".join([figures_table(figures), *([_explain(failed, agreements)] * bool(failed)), str(out)])


def _quantise(target: Path, source: Path, dataset: FrameDataset, train: list[int], reference: Any) -> int:
    """Leave as few nodes in float32 as agreement on the calibration images asks for; their number."""
    import onnx

    simple = target.with_name("simple.onnx")
    simplify(source, simple)
    found, chosen = -1.0, 0
    for spared in spare_choices(onnx.load(simple)):
        attempt = target.with_name("attempt.onnx")
        quantise(simple, attempt, (dataset[index].numpy() for index in train), spared=spared)
        share = measure_agreement(reference, run_onnx(attempt, torch.get_num_threads()), dataset, train).share
        log.info("int8 with %d nodes in float32: %.3f %% of the pixels of train images alike", len(spared), share)
        if share > found:
            found, chosen = share, len(spared)
            attempt.replace(target)
        attempt.unlink(missing_ok=True)
        if found >= REQUIRED[target.name] + (100 - REQUIRED[target.name]) / 4:  # other images may be a little worse
            break
    simple.unlink()
    return chosen


def _notes(artifact: Artifact, segmenter: Segmenter, options: ExportOptions, resize: int) -> dict[str, Any]:
    segmentation = segmentation_by(artifact)
    names = Names(segmentation, tuple(f"cluster {cluster}" for cluster in range(segmenter.k)))
    if options.names:
        names = load_names(options.names, segmenter.k, segmentation)
    notes = {
        "segmentation": segmentation,
        "names": list(names.of_cluster),
        "named_ids": list(names.merged_ids),
        "resize": resize,
        "multiple_of": STRIDE,
        "input": "uint8 (batch, channels, height, width), RGB, 0..255; normalised inside",
        "output": options.output,
    }
    if inputs := segmenter.architecture["encoder"].get("inputs"):
        text = "uint8 (batch, channels, height, width), each channel scaled from low..high of `inputs` to 0..255"
        notes |= {"inputs": inputs, "input": text}
    return notes


def _explain(failed: list[str], agreements: dict[str, Agreement]) -> str:
    parts = [f"{name}: {agreements[name].share:.3f} % (required {REQUIRED[name]} %)" for name in failed]
    return (
        f"too few pixels are labelled as by the trained model: {'; '.join(parts)}. `--keep-failed` keeps the files and "
        "all figures; `--calibration` with more images, or `--no-int8`, may mend it"
    )
