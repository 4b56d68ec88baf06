"""Times stage extract against the bare forward pass of its network."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import Row, time_calls
from benchmarks.samples import write_photos
from pipeline.backbones.encoder import build_encoder
from pipeline.data.frames import Frame
from pipeline.data.loading import FrameDataset, load_batches
from pipeline.data.views import normalise
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.store import FeatureStore
from pipeline.params import load_params
from pipeline.runtime.device import autocast

IMAGES, HEIGHT, WIDTH, SIDE = 128, 128, 160, 128
CPU = torch.device("cpu")


def measure_rows() -> list[Row]:
    """Extraction with frames in memory, and from JPEG files."""
    params = load_params().extract
    encoder = build_encoder("resnet18", 128, 0)
    encode = freeze_encoder(encoder, "decoder", device=CPU, precision=params.precision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_photos(folder, IMAGES, HEIGHT, WIDTH, Frame(SIDE, "center"))
        cached, cold = FrameDataset(table.rows, table, 10**9), FrameDataset(table.rows, table, 0)
        images = Images(
            [row.image_id for row in table.rows],
            [row.sha256 for row in table.rows],
            cached.sizes,
            [True] * IMAGES,
        )

        def extract(dataset: FrameDataset) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as run:
                out, store = Path(run) / "out", Path(run) / "store"
                out.mkdir()
                extract_features(
                    images,
                    partial(load_batches, dataset, workers=0),
                    encode,
                    dimension=128,
                    params=params,
                    out=out,
                    store=FeatureStore(store),
                    metadata={},
                    check_stop=lambda: None,
                    log=logging.getLogger("benchmarks"),
                )

        batches = [
            torch.stack([cached[index] for index in range(first, first + params.batch_size)])
            for first in range(0, IMAGES, params.batch_size)
        ]

        def forward() -> None:
            with torch.inference_mode(), autocast(CPU, params.precision):
                for batch in batches:
                    encoder.forward_map(normalise(batch), "decoder")

        seconds = time_calls(
            {"forward": forward, "cache": partial(extract, cached), "JPEG": partial(extract, cold)}, repeats=2
        )
    bare = seconds["forward"] / IMAGES * 1e3
    return [
        Row(f"extract, {source}", "bare forward", ours, bare, "ms/image", bare / ours, reach)
        for source, ours, reach in (
            ("frames in memory", seconds["cache"] / IMAGES * 1e3, ">= 0.85"),
            (f"JPEG, {SIDE} px", seconds["JPEG"] / IMAGES * 1e3, ">= 0.60"),
        )
    ]
