"""What an export is measured by, and the table of it."""

from __future__ import annotations

from typing import Any

from pipeline.export.onnx_files import OPSET
from pipeline.export.parity import THREADS, Agreement

REQUIRED = {"model.onnx": 99.9, "model-int8.onnx": 98.0}  # percent of the pixels labelled alike


def figures_table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    heads = ["model", "MB", *(f"ms, {count} thread{'s' * (count > 1)}" for count in THREADS), "labels as torch, %"]
    rows = [heads, ["---"] * len(heads)]
    for name, entry in figures["models"].items():
        share = "–" if entry["agreement"] is None else f"{entry['agreement']:.3f}"
        rows.append([name, f"{entry['bytes'] / 1e6:.1f}", *(f"{value:.1f}" for value in entry["ms"]), share])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gather_figures(
    agreements: dict[str, Agreement],
    latencies: dict[str, list[float]],
    sizes: dict[str, int],
    shape: tuple[int, int],
) -> dict[str, Any]:
    """All that was measured, as plain values.

    Args:
        agreements: Of each file with the trained model.
        latencies: Milliseconds of the trained model ("torch") and of each file, for each number in `THREADS`.
        sizes: Bytes of the same.
        shape: h and w of the image that was timed.
    """
    models = {}
    for name, milliseconds in latencies.items():
        found = agreements.get(name)
        models[name] = {
            "agreement": found.share if found else None,
            "required": REQUIRED.get(name),
            "bytes": sizes[name],
            "ms": milliseconds,
        }
    first = next(iter(agreements.values()))
    return {
        "models": models,
        "images": first.images,
        "pixels": first.pixels,
        "latency_of": f"one image of {shape[1]} x {shape[0]} px",
        "threads": list(THREADS),
        "opset": OPSET,
    }
