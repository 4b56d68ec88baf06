"""Times one epoch of presets picie and fs4, and of the same recipe done plainly."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measuring import Row
from benchmarks.plain_recipe import PlainRecipe
from benchmarks.samples import write_photos
from benchmarks.trainees import CPU, segmenter_trainee
from pipeline.backbones.encoder import build_encoder
from pipeline.data.frames import Frame
from pipeline.data.loading import FrameDataset, make_loader
from pipeline.data.manifest import ImageTable
from pipeline.params import TrainParams, parse_params
from pipeline.params.presets import merge_overrides, read_presets
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.interrupts import StopSignal
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.loop import run_epochs
from pipeline.yaml_reader import read_yaml

IMAGES, HEIGHT, WIDTH, CLUSTERS = 367, 360, 480, 11  # the train images of CamVid
SHORT_SIDE, SIDE = 240, 160  # frames are cut from the middle of what is brought to this short side
AUTHORS = 85.0 * 2 / IMAGES  # processor seconds per image of the authors' code, batch 16, on two such cores


def measure_rows() -> list[Row]:
    """One epoch of each from the same network on the same JPEG files, as many as CamVid has and of its size.

    A shorter one would tell too much: k-means works on a sample of pixels, which many images do not make larger. Of
    ours it is the first epoch, in which the files are decoded; later ones find the frames in memory.
    """
    keep_freed_memory()  # as every stage does
    with tempfile.TemporaryDirectory() as folder:
        table = write_photos(Path(folder), IMAGES, HEIGHT, WIDTH, Frame(SHORT_SIDE, "center", SIDE))
        picie, fs4 = _time_epoch("picie", table), _time_epoch("fs4", table)
        plain = _time_plain([Path(row.path) for row in table.rows])
    unit = "s/image"
    return [
        Row("epoch of preset picie", "the recipe done plainly", picie, plain, unit, plain / picie, ">= 5"),
        Row("epoch of preset picie", "the authors' code", picie, AUTHORS, unit, AUTHORS / picie, ">= 5"),
        Row("epoch of preset fs4", "epoch of preset picie", fs4, picie, unit, fs4 / picie, "<= 1.5"),
        Row("the recipe done plainly", "the authors' code", plain, AUTHORS, unit, plain / AUTHORS),
    ]


def _params(preset: str) -> TrainParams:
    raw = merge_overrides(read_yaml(Path("params.yaml")), read_presets([preset]))
    return parse_params(merge_overrides(raw, {"train": {"k": CLUSTERS, "epochs": 1, "min_effective_rank": 0.0}})).train


def _time_epoch(preset: str, table: ImageTable) -> float:
    """Processor seconds an image."""
    load = make_loader(FrameDataset(table.rows, table, 10**9), workers=0, device=CPU)
    trainee = segmenter_trainee(_params(preset), IMAGES, SIDE, load)
    with torch.no_grad():
        trainee.segmenter.embed(torch.randn(2, 3, SIDE, SIDE))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        run_epochs(
            trainee,
            epochs=1,
            load=load,
            checkpoints=Checkpoints(Path(folder)),
            curves=Curves(None),
            stop=StopSignal(),
            log=logging.getLogger("benchmarks"),
        )
        return (time.process_time() - begin) / IMAGES


def _time_plain(images: list[Path]) -> float:
    """Processor seconds an image."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = build_encoder("resnet18", 128, 0)
        recipe = PlainRecipe(encoder, images, (SHORT_SIDE, SIDE), _params("picie"), Path(folder))
        begin = time.process_time()
        recipe.run_epoch()
        return (time.process_time() - begin) / IMAGES
