import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.backbones.encoder import Encoder, build_encoder
from pipeline.errors import InputError, TrainingError
from pipeline.params import PretrainParams, parse_params
from pipeline.params.presets import merge_overrides
from pipeline.pretext import byol
from pipeline.pretext.methods import METHODS
from pipeline.pretext.pretrain import COLLAPSE_AFTER, PretextTrainee, pretrain_encoder
from pipeline.pretext.quality import ViewQuality
from pipeline.runtime.interrupts import Interrupted, StopSignal
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.loop import Batches
from pipeline.yaml_reader import read_yaml

RAW = read_yaml(Path(__file__).parents[2] / "params.yaml")
CPU = torch.device("cpu")
SMALL = {"channels": 8, "epochs": 2, "batch_size": 3, "view_size": 32, "dense_cells": 4, "precision": "fp32"}
IMAGES = torch.randint(0, 256, (6, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = [(32, 64)] * 6


def params(**changes) -> PretrainParams:
    return parse_params(merge_overrides(RAW, {"pretrain": {**SMALL, **changes}})).pretrain


class Loader:
    def __init__(self, stop: StopSignal, stop_at: int | None = None) -> None:
        self.stop, self.stop_at, self.given = stop, stop_at, 0

    def __call__(self, batches: Batches) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            self.given += 1
            if self.given == self.stop_at:
                self.stop._receive(2, None)
            yield batch, IMAGES[batch]


def train(folder: Path, stop_at: int | None = None, sizes=SIZES, start: Encoder | None = None, spare=False, **changes):
    stop, curves = StopSignal(), Curves(None)
    encoder = pretrain_encoder(
        params(**changes),
        sizes=sizes,
        load=Loader(stop, stop_at),
        quality=ViewQuality(params(**changes), sizes, Loader(stop)),
        device=CPU,
        checkpoints=Checkpoints(folder, from_start=spare),
        curves=curves,
        stop=stop,
        log=logging.getLogger("fs4.test"),
        start=start,
    )
    return encoder, curves


def trainee(**changes) -> PretextTrainee:
    settings = params(**changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder("resnet18", settings.channels, seed=0)
        model = METHODS[settings.method](encoder, settings)
    return PretextTrainee(model, settings, SIZES, CPU, ViewQuality(settings, SIZES, Loader(StopSignal())))


TERMS = {"dense_clusters": set(), "global_dense": {"global_loss", "dense_loss"}}


@pytest.fixture(scope="module", params=TERMS)
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(tmp_path_factory, method):
    return train(tmp_path_factory.mktemp("whole"), method=method)


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_training_changes_the_weights_and_leaves_one_row_per_epoch(whole, method):
    encoder, curves = whole
    assert not encoder.training
    assert not same(encoder, build_encoder("resnet18", 8, seed=params().seed))
    assert len(curves.rows) == 2
    measured = {"image_match", "place_match", "effective_rank"}
    assert set(curves.rows[0]) == {"loss", "embedding_std", "learning_rate"} | measured | TERMS[method]
    assert all(math.isfinite(value) for row in curves.rows for value in row.values())


@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, whole, method, stop_at):
    with pytest.raises(Interrupted):
        train(tmp_path, stop_at, method=method)
    torch.manual_seed(stop_at)  # the global generator must not matter
    encoder, curves = train(tmp_path, method=method)
    assert same(encoder, whole[0])
    assert curves.rows == whole[1].rows


@pytest.mark.parametrize(
    "options",
    [
        {"clusters": {"queue": 10, "extra_views": 2}},
        {"method": "moco", "queue": 5, "optimizer": "lars"},
        {"method": "byol", "momentum": 0.5},
    ],
    ids=["dense_clusters", "moco", "byol"],
)
def test_what_is_remembered_is_resumed_as_well(tmp_path, options):
    whole_encoder, whole_curves = train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", 3, **options)
    encoder, curves = train(tmp_path / "stopped", **options)
    assert same(encoder, whole_encoder)
    assert curves.rows == whole_curves.rows
    assert curves.rows != train(tmp_path / "plain")[1].rows


def test_the_momentum_of_slow_copies_rises_from_step_to_step(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(byol, "rising_momentum", lambda start, progress: seen.append(progress) or start)
    train(tmp_path, method="byol")  # two epochs of two steps
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_the_control_without_training_keeps_the_random_weights(tmp_path):
    encoder, curves = train(tmp_path, method="none")
    assert same(encoder, build_encoder("resnet18", 8, seed=params().seed))
    assert not encoder.training
    assert curves.rows == []


def test_a_single_image_cannot_be_contrasted(tmp_path):
    with pytest.raises(InputError, match="1 train images: pretext training needs two of one shape"):
        train(tmp_path, sizes=[(32, 64)])
    with pytest.raises(InputError, match="2 train images"):
        train(tmp_path, sizes=[(32, 64), (64, 32)])


def test_batches_hold_at_least_two_images_and_differ_by_epoch():
    toy = trainee()
    seven = PretextTrainee(toy.model, params(), [(32, 64)] * 7, CPU, toy.quality)
    epochs = [seven.epoch_batches(epoch) for epoch in range(4)]
    assert all(sorted(len(batch) for batch in batches) == [3, 4] for batches in epochs)
    assert epochs[0] == seven.epoch_batches(0)
    assert len({str(batches) for batches in epochs}) == 4


def test_losses_are_replayed_and_change_with_the_epoch(method):
    toy = trainee(method=method)
    toy.model.eval()
    with torch.no_grad():
        first, again, later = (toy.losses(epoch, [0, 1, 2], IMAGES[:3])["loss"] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_the_loss_falls_on_a_batch_that_is_learned_by_heart(method):
    toy = trainee(method=method, learning_rate=2e-3, clusters={**RAW["pretrain"]["clusters"], "count": 4})
    toy.begin_epoch(0)
    values = []
    for _ in range(12):
        toy.optimizer.zero_grad()
        loss = toy.losses(0, [0, 1, 2], IMAGES[:3])["loss"]
        loss.backward()
        toy.optimizer.step()
        values.append(loss.item())
    assert min(values[-3:]) < 0.6 * values[0]


@pytest.mark.parametrize("dense_weight", [0.0, 1.0])
def test_either_term_can_be_left_out(tmp_path, dense_weight):
    _, curves = train(tmp_path, method="global_dense", dense_weight=dense_weight, epochs=1)
    kept = "dense_loss" if dense_weight else "global_loss"
    assert curves.rows[0]["loss"] == pytest.approx(curves.rows[0][kept])


def test_mixed_precision_trains_as_well(tmp_path, method):
    _, curves = train(tmp_path, method=method, precision="bf16", epochs=1)
    assert math.isfinite(curves.rows[0]["loss"])


def test_collapsed_embeddings_stop_the_run_with_advice(tmp_path, monkeypatch, method):
    start = PretextTrainee.begin_epoch

    def collapse(self: PretextTrainee, epoch: int) -> None:
        start(self, epoch)
        projector = self.model.clusters.project_place if method == "dense_clusters" else self.model.project_image
        last = projector[3]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.ones_(last.bias)
        for parameter in last.parameters():
            parameter.requires_grad_(False)

    monkeypatch.setattr(PretextTrainee, "begin_epoch", collapse)
    expected = (
        r"collapsed: embedding_std 0\.000 is below pretrain\.min_embedding_std 0\.05; lower pretrain\.learning_rate"
    )
    with pytest.raises(TrainingError, match=expected):
        train(tmp_path, method=method, epochs=COLLAPSE_AFTER)
    train(tmp_path / "short", method=method, epochs=1)


def test_the_first_epochs_may_have_a_small_spread():
    toy = trainee()
    small = {"loss": 1.0, "embedding_std": 0.01}
    for epoch in range(COLLAPSE_AFTER - 1):
        assert toy.end_epoch(epoch, small)["embedding_std"] == 0.01
    with pytest.raises(TrainingError):
        toy.end_epoch(COLLAPSE_AFTER - 1, small)
    toy.end_epoch(COLLAPSE_AFTER, {"loss": 1.0, "embedding_std": 0.06})


def test_learning_rates_warm_up_and_then_follow_half_a_cosine():
    toy = trainee(warmup_fraction=0.1)
    factors = [toy.learning_rate_factor(i / 1000) for i in range(1000)]
    assert 0 < factors[0] < 0.02
    steps = np.diff(factors)
    assert (steps[:99] > 0).all()
    assert (steps[101:] <= 0).all()
    assert max(factors) == pytest.approx(1.0, abs=0.02)
    assert factors[550] == pytest.approx(0.5, abs=0.01)
    assert factors[-1] < 0.001
    assert trainee(warmup_fraction=0.0).learning_rate_factor(0.0) == 1.0
    assert 0 < trainee(warmup_fraction=1.0).learning_rate_factor(0.999) <= 1.0


@pytest.mark.parametrize("at", [1, 4])
def test_with_too_little_memory_the_result_is_the_same_if_it_may_be_spared(tmp_path, monkeypatch, whole, method, at):
    losses, calls = PretextTrainee.losses, []

    def exhaust(self, *arguments):
        found = losses(self, *arguments)  # by then running statistics have changed
        calls.append("forward" in vars(self.model.encoder.backbone.stem))
        if len(calls) == at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(PretextTrainee, "losses", exhaust)
    with pytest.raises(torch.OutOfMemoryError):
        train(tmp_path / "stops", method=method)
    calls.clear()
    encoder, curves = train(tmp_path / "goes on", method=method, spare=True)
    assert calls == [False] * at + [True] * (len(calls) - at)
    assert same(encoder, whole[0])
    assert curves.rows == whole[1].rows
