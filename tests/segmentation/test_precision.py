"""bfloat16 against float32 on the networks, sizes and schedule of preset tiny."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.data.scenes import CLASSES, render_scene
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import hungarian
from pipeline.params import TrainParams, parse_params
from pipeline.params.presets import merge_overrides, read_presets
from pipeline.runtime.interrupts import StopSignal
from pipeline.runtime.randomness import generator
from pipeline.segmentation.inference import segment_images
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.training import train_segmenter
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.yaml_reader import read_yaml

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SCENES = [render_scene(generator(0, "scenes/train", index), 64, 64) for index in range(12)]
IMAGES = torch.from_numpy(np.stack([image for image, _ in SCENES]).transpose(0, 3, 1, 2).copy())
MASKS = np.stack([mask for _, mask in SCENES])
SEEDS = range(4)


def make_params(precision: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> TrainParams:
    monkeypatch.chdir(ROOT)
    raw = merge_overrides(read_yaml(Path("params.yaml")), read_presets(["tiny"]))
    # without pyramid labels, which no part of this makes
    train = {"precision": precision, "seed": seed, "pgg": {"use": ["classification"], "weight": 0.0}}
    return parse_params(merge_overrides(raw, {"train": train})).train


def run(precision: str, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    params = make_params(precision, seed, monkeypatch)
    raw = parse_params(read_yaml(Path("params.yaml")))
    return train_segmenter(
        build_encoder("resnet18", 32, 0),
        params,
        pyramid=[],
        grouping=raw.pgg,
        sizes=[(64, 64)] * len(IMAGES),
        load=lambda batches: ((batch, IMAGES[batch]) for batch in batches),
        device=CPU,
        checkpoints=Checkpoints(folder / f"{precision}-{seed}"),
        curves=Curves(None),
        stop=StopSignal(),
        log=logging.getLogger("fs4.test"),
    )[0]


def accuracy(segmenter: Segmenter, precision: str) -> float:
    labels = segment_images(segmenter, IMAGES, device=CPU, precision=precision)  # type: ignore[arg-type]
    counts = confusion_matrix(MASKS, labels, classes=len(CLASSES), k=9, ignore_index=255)
    return float(np.trace(hungarian(counts).apply(counts)) / counts.sum())


def test_training_in_bf16_is_as_good_as_in_fp32_within_the_noise_of_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {
        precision: [accuracy(run(precision, seed, tmp_path, monkeypatch), precision) for seed in SEEDS]
        for precision in ("fp32", "bf16")
    }
    noise = np.std(scores["fp32"], ddof=1)
    assert noise > 0
    # the means of four seeds differ by less than two standard errors of their difference
    assert abs(np.mean(scores["bf16"]) - np.mean(scores["fp32"])) < 2 * noise * np.sqrt(2 / len(SEEDS))


def test_one_network_gives_nearly_the_same_labels_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = run("fp32", 0, tmp_path, monkeypatch)
    fp32, bf16 = (segment_images(segmenter, IMAGES, device=CPU, precision=precision) for precision in ("fp32", "bf16"))
    assert 0.97 < (fp32 == bf16).mean() < 1
