"""Times the steps of both trainings against a bare forward and backward pass on the same shapes."""

from __future__ import annotations

import torch

from benchmarks.measuring import Row, time_calls
from benchmarks.trainees import CPU, SIDE, pretext_trainee, segmenter_trainee
from pipeline.data.views import apply_geometric, apply_photometric, draw_geometric, draw_photometric
from pipeline.params import load_params
from pipeline.runtime.device import autocast
from pipeline.segmentation.two_views import make_views

REPEATS = 5


def measure_rows() -> list[Row]:
    """Pre-training and training, augmentation apart."""
    return [*_pretrain(), *_train()]


def _pretrain() -> list[Row]:
    params = load_params().pretrain
    trainee = pretext_trainee()
    encoder = trainee.model.encoder
    indices = list(range(params.batch_size))
    images = torch.randint(0, 256, (len(indices), 3, SIDE, SIDE), dtype=torch.uint8)
    both = torch.randn(2 * len(indices), 3, params.view_size, params.view_size)

    def step() -> None:
        trainee.optimizer.zero_grad(set_to_none=True)
        trainee.losses(0, indices, images)["loss"].backward()
        trainee.optimizer.step()

    def bare() -> None:
        encoder.zero_grad(set_to_none=True)
        with autocast(CPU, params.precision):
            total = encoder(both).float().square().mean()
        total.backward()

    def augment() -> None:
        frames = images.float() / 255
        for side in ("first", "second"):
            crop = draw_geometric(0, side, 0, indices, min_area=0.3, flip=True, flip_vertical=False, rotate=False)
            colours = draw_photometric(0, side, 0, indices, jitter=0.4, hue=0.1)
            apply_photometric(apply_geometric(frames, crop, (params.view_size,) * 2), colours)

    trainee.begin_epoch(0)
    return _rows("pretrain", time_calls({"step": step, "bare": bare, "augment": augment}, REPEATS))


def _train() -> list[Row]:
    params = load_params().train
    trainee = segmenter_trainee(params, params.batch_size)
    (_, images), *_ = trainee.load([list(range(params.batch_size))])
    trainee.begin_epoch(0)
    indices = list(range(params.batch_size))
    both = torch.randn(2 * len(indices), 3, SIDE, SIDE).to(memory_format=torch.channels_last)

    def step() -> None:
        trainee.optimizer.zero_grad(set_to_none=True)
        trainee.losses(0, indices, images)["loss"].backward()
        trainee.optimizer.step()

    # not the squares: the norm of embeddings is constant, and its gradient mere rounding
    towards = torch.randn(trainee.segmenter.prototypes.shape[1], 1, 1)

    def bare() -> None:
        trainee.segmenter.zero_grad(set_to_none=True)
        with autocast(CPU, params.precision):
            total = (trainee.segmenter.embed(both) * towards).mean()
        total.backward()

    def augment() -> None:
        make_views(images, indices, 0, params, CPU)

    return _rows("train", time_calls({"step": step, "bare": bare, "augment": augment}, REPEATS))


def _rows(stage: str, seconds: dict[str, float]) -> list[Row]:
    net = seconds["step"] - seconds["augment"]
    return [
        Row(
            f"{stage}: step without augmentation",
            "forward + backward",
            net,
            seconds["bare"],
            "s",
            seconds["bare"] / net,
            ">= 0.80",
        ),
        Row(
            f"{stage}: augmentation",
            "the whole step",
            seconds["augment"],
            seconds["step"],
            "s",
            seconds["augment"] / seconds["step"],
        ),
    ]
