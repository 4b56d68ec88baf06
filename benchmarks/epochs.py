"""Times one epoch of presets picie and fs4, and of the same recipe done plainly."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
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

IMAGES, SIDE, CLUSTERS = 32, 160, 11
AUTHORS = 85.0 * 2 / 367  # processor seconds per image of the authors' code, 160 px, batch 16, on two such cores


def measure_rows() -> list[Row]:
    """An epoch of each, from the same network on the same frames; each once, after a step to warm up."""
    picie, fs4 = (_time(_epoch(preset)) for preset in ("picie", "fs4"))
    with tempfile.TemporaryDirectory() as folder:
        params = _params("picie")
        _, frames = segmenter_trainee(params, IMAGES, SIDE)
        recipe = PlainRecipe(build_encoder("resnet18", 128, 0), frames, params, Path(folder))
        plain = _time(recipe.run_epoch)
    unit = "s/image"
    return [
        Row("epoch of preset picie", "the recipe done plainly", picie, plain, unit, plain / picie, ">= 5"),
        Row("epoch of preset fs4", "epoch of preset picie", fs4, picie, unit, fs4 / picie, "<= 1.5"),
        Row("the recipe done plainly", "the authors' code", plain, AUTHORS, unit, plain / AUTHORS),
    ]


def _params(preset: str) -> TrainParams:
    raw = merge_overrides(read_yaml(Path("params.yaml")), read_presets([preset]))
    return parse_params(merge_overrides(raw, {"train": {"k": CLUSTERS, "epochs": 1, "min_effective_rank": 0.0}})).train


def _epoch(preset: str) -> Callable[[], None]:
    trainee, _ = segmenter_trainee(_params(preset), IMAGES, SIDE)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_epochs(
                trainee,
                epochs=1,
                load=trainee.load,
                checkpoints=Checkpoints(Path(folder)),
                curves=Curves(None),
                stop=StopSignal(),
                log=logging.getLogger("benchmarks"),
            )

    with torch.no_grad():
        trainee.segmenter.embed(torch.randn(2, 3, SIDE, SIDE))
    return run


def _time(epoch: Callable[[], None]) -> float:
    begin = time.process_time()
    epoch()
    return (time.process_time() - begin) / IMAGES
