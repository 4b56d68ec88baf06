"""ONNX files: written from a network, quantised to 8 bits, and run."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.errors import InputError
from pipeline.export.graph import PixelSegmenter
from pipeline.params import STRIDE

if TYPE_CHECKING:
    import onnx
    import onnxruntime

OPSET = 20
INPUT = "images"
METADATA = "fs4"  # key of the notes in the file, whose value is JSON
LARGEST = 1024  # longest side of an image, in units of 32 pixels
WEIGHTED = ("Conv", "MatMul", "Gemm")  # what is quantised, where one factor is a weight


def require_onnx() -> None:
    """Fail early where the optional libraries are not installed.

    Raises:
        InputError: The message says how to install them.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f"{package} is not installed, which export needs; "
                "run `pip install -e '.[onnx]'` in the project's folder"
            ) from None


def write_onnx(graph: PixelSegmenter, path: Path, *, channels: int, notes: dict[str, Any]) -> None:
    """Write a network as ONNX, for any number of images of any size in multiples of 32.

    Args:
        graph: From `build_graph`.
        path: The file.
        channels: C of the images.
        notes: Kept in the file's metadata as JSON.

    Raises:
        InputError: The network holds operations that ONNX or a graph of dynamic size has not.
    """
    example = torch.randint(0, 256, (2, channels, 3 * STRIDE, 4 * STRIDE), dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=1, max=LARGEST) for name in ("rows", "columns"))
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1), 2: STRIDE * height, 3: STRIDE * width}}
    with _quiet():
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[graph.output],
                dynamic_shapes=shapes,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            backbone = graph.segmenter.architecture["encoder"]["backbone"]
            raise InputError(f"{backbone}: this network cannot be written as ONNX of dynamic size ({reason})") from None
        assert program is not None
        program.model.metadata_props[METADATA] = json.dumps(notes, sort_keys=True)
        program.save(path, external_data=False)


def quantise(source: Path, target: Path, frames: Iterable[np.ndarray], *, spared: Collection[str] = ()) -> None:
    """Make a copy whose weighted sums are computed in 8 bits (QDQ, one scale per channel of a weight).

    Args:
        source: The file of `write_onnx`.
        target: The file to write.
        frames: Train images uint8 (C, h, w) from which the ranges of the activations are taken (minimum, maximum).
        spared: Names of nodes that stay in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Frames(CalibrationDataReader):
        def __init__(self) -> None:
            self._frames = iter(frames)

        def get_next(self) -> dict[str, np.ndarray] | None:
            frame = next(self._frames, None)
            return None if frame is None else {INPUT: frame[None]}

    nodes = [name for name, _ in weighted_nodes(onnx.load(source)) if name not in spared]
    with _quiet():
        quantize_static(
            str(source),
            str(target),
            Frames(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )


def simplify(source: Path, target: Path) -> None:
    """Fold constants and normalisations into weights, as quantisation needs it; the notes stay."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        # onnxruntime's symbolic shapes do not know of multiples of 32
        quant_pre_process(str(source), str(Path(folder) / "simple.onnx"), skip_symbolic_shape=True)
        model = onnx.load(Path(folder) / "simple.onnx")
    notes = onnx.load(source, load_external_data=False).metadata_props
    del model.metadata_props[:]
    model.metadata_props.extend(notes)
    used = {node.domain for node in model.graph.node}
    domains = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.save(model, target)


def weighted_nodes(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Nodes that multiply by weights, in order, each with the name of its weight, which starts with its module."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        (node.name, node.input[1])
        for node in model.graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in weights
    ]


def spare_choices(model: onnx.ModelProto) -> list[list[str]]:
    """Nodes that may stay in float32, fewest first: none; all after the backbone; these and the backbone's first."""
    nodes = weighted_nodes(model)
    head = [name for name, weight in nodes if ".backbone." not in weight]
    first = [name for name, _ in nodes[:1]]
    return [[], head, [*first, *head]]


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU with a number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings about the insides of the exporter, which nobody can mend here."""
    root = logging.getLogger()
    before = root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(before)
