"""Times one epoch of presets picie and fs4, and of the same recipe done plainly."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measuring import Row
from benchmarks.plain_recipe import PlainRecipe
from benchmarks.trainees import segmenter_trainee
from pipeline.backbones.encoder import build_encoder
from pipeline.params import TrainParams, parse_params
from pipeline.params.presets import merge_overrides, read_presets
from pipeline.runtime.interrupts import StopSignal
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.loop import run_epochs
from pipeline.yaml_reader import read_yaml

IMAGES, SIDE, CLUSTERS = 367, 160, 11  # the train images of CamVid
AUTHORS = 85.0 * 2 / IMAGES  # processor seconds per image of the authors' code, batch 16, on two such cores


def measure_rows() -> list[Row]:
    """One epoch of each from the same network on the same frames, as many as CamVid has.

    A shorter one would tell too much: k-means works on a sample of pixels, which many images do not make larger.
    """
    picie, fs4 = _time_epoch("picie"), _time_epoch("fs4")
    plain = _time_plain()
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


def _time_epoch(preset: str) -> float:
    """Processor seconds an image."""
    trainee, _ = segmenter_trainee(_params(preset), IMAGES, SIDE)
    with torch.no_grad():
        trainee.segmenter.embed(torch.randn(2, 3, SIDE, SIDE))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        run_epochs(
            trainee,
            epochs=1,
            load=trainee.load,
            checkpoints=Checkpoints(Path(folder)),
            curves=Curves(None),
            stop=StopSignal(),
            log=logging.getLogger("benchmarks"),
        )
        return (time.process_time() - begin) / IMAGES


def _time_plain() -> float:
    """Processor seconds an image."""
    params = _params("picie")
    _, frames = segmenter_trainee(params, IMAGES, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        recipe = PlainRecipe(build_encoder("resnet18", 128, 0), frames, params, Path(folder))
        begin = time.process_time()
        recipe.run_epoch()
        return (time.process_time() - begin) / IMAGES
