"""Pyramid labels made anew, within a round and between rounds, and interruptions of it."""

import math

import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.runtime.interrupts import Interrupted
from pipeline.training.checkpoints import Checkpoints

EVERY_USE = ["classification", "contrast", "prior", "strata"]
# batches of 3 of 6 images: each pass is 2; an epoch has one for prototypes, one for the probe and one of steps, and
# one more before these where labels are made anew
VARIANTS = {
    "recluster": {"pgg": {"recluster_every": 1, "use": EVERY_USE}},
    "continue": {"rounds": 2, "epochs": 1, "pgg": {"use": EVERY_USE}},
    "backbone": {
        "rounds": 2,
        "epochs": 1,
        "round_start": "backbone",
        "one_view": True,
        "assignment": {"teacher_momentum": 0.5},
    },
}
STOPS = [
    ("recluster", 13, (1, 1)),
    ("continue", 6, (0, 2)),
    ("continue", 13, (1, 1)),
    ("backbone", 13, (1, 1)),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train):
    return {name: train(tmp_path_factory.mktemp(name), **changes) for name, changes in VARIANTS.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, train):
    return train(tmp_path_factory.mktemp("plain"), epochs=1, pgg={"weight": 0.0})


def assert_equal(one, two):
    pairs = zip(one.segmenter.state_dict().values(), two.segmenter.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    assert one.curves.rows == two.curves.rows
    assert one.statistics == two.statistics


@pytest.mark.parametrize(("name", "stop_at", "saved"), STOPS)
def test_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, train, whole, name, stop_at, saved):
    with pytest.raises(Interrupted):
        train(tmp_path, stop_at, **VARIANTS[name])
    state = Checkpoints(tmp_path).load()
    assert (state["epoch"], state["step"]) == saved
    assert_equal(train(tmp_path, **VARIANTS[name]), whole[name])


def test_a_round_that_was_ended_but_not_followed_is_resumed_as_well(tmp_path, train, whole):
    with pytest.raises(Interrupted):
        train(tmp_path, 13, **VARIANTS["backbone"])
    max(tmp_path.glob("checkpoint-*.pt")).unlink()
    state = Checkpoints(tmp_path).load()
    assert (state["epoch"], state["step"]) == (1, 0)
    assert_equal(train(tmp_path, **VARIANTS["backbone"]), whole["backbone"])


def test_the_curves_run_on_over_the_rounds(whole):
    for name, rounds in (("recluster", [None, None]), ("continue", [1, 2]), ("backbone", [1, 2])):
        rows = whole[name].curves.rows
        assert [row.get("round") for row in rows] == rounds
        assert ["pgg_changed_level_2" in row for row in rows] == [False, True]
        assert all(math.isfinite(value) for row in rows for value in row.values())
        assert rows[1]["pgg_changed_level_2"] > 0


def test_labels_are_made_anew_every_few_epochs_of_a_round_and_before_each_round(trainee):
    def due(**changes):
        toy = trainee(**changes)
        return [epoch for epoch in range(changes["epochs"] * changes.get("rounds", 1)) if toy._is_regrouped(epoch)]

    assert due(epochs=5) == []
    assert due(epochs=5, pgg={"recluster_every": 2}) == [2, 4]
    assert due(epochs=3, rounds=3) == [3, 6]
    assert due(epochs=5, rounds=2, pgg={"recluster_every": 2}) == [2, 4, 5, 7, 9]


def test_the_warm_up_comes_again_in_every_round(trainee, images):
    toy = trainee(epochs=2, rounds=2, warmup_epochs=1)
    told = [toy.losses(epoch, [0, 1, 2], images[:3]) for epoch in range(4)]
    assert ["pixel_loss" in values for values in told] == [False, True, False, True]


@pytest.mark.parametrize("round_start", ["continue", "backbone"])
def test_a_round_starts_with_fresh_heads_and_optimiser(trainee, images, monkeypatch, round_start):
    toy = trainee(rounds=2, epochs=1, round_start=round_start, assignment={"teacher_momentum": 0.5})
    toy.begin_epoch(0)
    toy.losses(0, [0, 1, 2], images[:3])["loss"].backward()
    toy.optimizer.step()
    networks = [toy.segmenter, toy.result]
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    heads = [p.clone() for p in toy.guidance.heads.parameters()]
    labels = [level.labels for level in toy.guidance.levels]
    monkeypatch.setattr(toy.prototypes, "fit", lambda *_: torch.rand(9, 8).numpy())  # it moves the running means
    toy.begin_epoch(1)
    assert not toy.optimizer.state
    assert not any(torch.equal(*pair) for pair in zip(heads, toy.guidance.heads.parameters(), strict=True))
    found = [level.labels for level in toy.guidance.levels]
    assert not any(torch.equal(*pair) for pair in zip(labels, found, strict=True))
    assert toy.prototypes.fitted == (round_start == "continue")
    start = build_encoder("resnet18", 8, seed=0).state_dict()
    for network, was in zip(networks, before, strict=True):
        now = network.state_dict()
        if round_start == "backbone":
            assert all(torch.equal(now[f"encoder.{key}"], value) for key, value in start.items())
        else:
            assert all(torch.equal(now[key], value) for key, value in was.items())


def test_heads_and_optimiser_go_on_when_labels_are_made_anew(trainee, images):
    toy = trainee(pgg={"recluster_every": 1})
    toy.begin_epoch(0)
    toy.losses(0, [0, 1, 2], images[:3])["loss"].backward()
    toy.optimizer.step()
    heads = [p.clone() for p in toy.guidance.heads.parameters()]
    toy.begin_epoch(1)
    assert len(toy.optimizer.state) > 0
    assert all(torch.equal(*pair) for pair in zip(heads, toy.guidance.heads.parameters(), strict=True))
    assert toy.guidance.changed


@pytest.mark.parametrize("use", [["contrast"], ["prior"], ["strata"], EVERY_USE])
def test_every_use_trains_and_changes_the_result(tmp_path, train, plain, use):
    run = train(tmp_path, epochs=1, pgg={"use": use})
    (row,) = run.curves.rows
    assert all(math.isfinite(value) for value in row.values())
    assert ("pgg_loss" in row) == bool({"contrast", "classification"} & set(use))
    assert ("pgg_nearest_level_2" in row) == ("contrast" in use)
    assert ("pgg_top1_level_2" in row) == ("classification" in use)
    changed = run.segmenter.encoder.decoder.laterals[0].weight
    assert not torch.equal(changed, plain.segmenter.encoder.decoder.laterals[0].weight)
    assert not torch.equal(run.segmenter.prototypes, plain.segmenter.prototypes)


def test_fewer_levels_train_fewer_heads(tmp_path, train):
    run = train(tmp_path, epochs=1, pgg={"levels": [2], "level_weights": [2.0]})
    assert "pgg_top1_level_2" in run.curves.rows[0]
    assert "pgg_top1_level_1" not in run.curves.rows[0]
