import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.evaluation.truth import open_truth
from pipeline.labels import few_labels
from pipeline.labels.division import divide_labelled
from pipeline.labels.few_labels import Net, choose_images, count_images, measure_few_labels, points_csv, summarise
from pipeline.runtime.artifacts import Artifact
from pipeline.runtime.digests import file_digest
from tests.labels.conftest import PARAMS, Data

SMALL = {"fractions": [0.1, 1.0], "seeds": 2, "head_steps": 2, "steps": 3, "batch_size": 2, "precision": "fp32"}


def measure(
    data: Data,
    artifact: Artifact,
    scratch: Path,
    check: Callable[[], None] = lambda: None,
    source="backbone",
    **changes,
) -> dict:
    params = PARAMS.finetune.model_copy(update={**SMALL, **changes})
    truth = open_truth(data.table, data.truth_table("train", "val"), params.split, params.unknown_ids)
    scratch.mkdir(exist_ok=True)
    return measure_few_labels(
        Net(source, artifact),
        divide_labelled(data.table, truth, params.seed),
        table=data.table,
        params=params,
        run=PARAMS.run,
        device=torch.device("cpu"),
        scratch=scratch,
        check_stop=check,
        log=logging.getLogger("fs4.test"),
    )


@pytest.fixture
def tiny_bodies(monkeypatch):
    """One convolution in place of the networks, which take seconds."""

    def build(source: str, artifact: Artifact, seed: int = 9) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())

    monkeypatch.setattr(few_labels, "load_body", build)
    monkeypatch.setattr(few_labels, "build_body", build)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=6), st.integers(1, 500))
def test_numbers_of_images_are_possible_and_ascend(fractions, labelled):
    counts = count_images(fractions, labelled)
    assert counts == sorted(set(counts))
    assert 1 <= counts[0] <= counts[-1] <= labelled


def test_at_least_one_image_and_all_of_them():
    assert count_images([0.01, 0.02, 0.05, 0.1, 1.0], 6) == [1, 6]
    assert count_images([0.01, 0.02, 0.05, 0.1, 1.0], 200) == [2, 4, 10, 20, 200]
    assert count_images([1.0], 1) == [1]


def test_more_images_hold_the_fewer():
    for seed in range(3):
        few, more = choose_images(20, 3, seed), choose_images(20, 9, seed)
        assert len(set(few)) == 3
        assert set(few) < set(more)
    assert choose_images(20, 20, 5) == list(range(20))
    assert choose_images(20, 3, 0) != choose_images(20, 3, 1)


@pytest.mark.parametrize("source", ["backbone", "segmenter"])
def test_every_point_is_measured_on_a_copy(data, artifacts, tmp_path, source):
    artifact = artifacts[source]
    before = {path.name: file_digest(path) for path in artifact.path.iterdir()}
    short = {"fractions": [0.1], "seeds": 1, "head_steps": 1, "steps": 1}
    found = measure(data, artifact, tmp_path / "scratch", source=source, **short)
    assert [point["start"] for point in found["points"]] == ["pretrained", "random"]
    assert found["points"][0]["miou"] >= 0
    assert (found["labelled_images"], found["scored_images"], found["split"]) == (6, 3, "val")
    assert {path.name: file_digest(path) for path in artifact.path.iterdir()} == before


def test_every_number_seed_and_start_is_a_point(data, artifacts, tmp_path, tiny_bodies):
    found = measure(data, artifacts["backbone"], tmp_path / "scratch")
    assert [(p["images"], p["seed"], p["start"]) for p in found["points"]] == [
        (images, seed, start) for images in (1, 6) for seed in (0, 1) for start in ("pretrained", "random")
    ]
    table = points_csv(found["points"]).splitlines()
    assert table[0] == "start,images,seed,miou,pixel_accuracy,mean_accuracy"
    assert len(table) == 9


def test_easy_classes_are_learnt(data, artifacts, tmp_path, tiny_bodies):
    found = measure(data, artifacts["backbone"], tmp_path / "s", fractions=[1.0], seeds=1, steps=40, head_steps=40)
    assert all(point["miou"] > 80 for point in found["points"])


def test_an_interrupted_run_goes_on_to_the_same_end(data, artifacts, tmp_path, tiny_bodies):
    whole = measure(data, artifacts["backbone"], tmp_path / "whole")
    steps = 0

    def stop_in_the_third_point() -> None:
        nonlocal steps
        steps += 1
        if steps == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(data, artifacts["backbone"], tmp_path / "cut", stop_in_the_third_point)
    assert len(list((tmp_path / "cut").iterdir())) == 2
    steps = 100
    resumed = measure(data, artifacts["backbone"], tmp_path / "cut", stop_in_the_third_point)
    assert steps == 100 + 5 * 6
    assert json.dumps(resumed) == json.dumps(whole)


def test_means_are_over_the_seeds():
    points = [{"start": "random", "images": 2, "seed": seed, "miou": miou} for seed, miou in enumerate((10.0, 14.0))]
    points += [{"start": "pretrained", "images": 2, "seed": 0, "miou": 30.0}]
    pretrained, random = summarise(points)
    assert pretrained == {"start": "pretrained", "images": 2, "seeds": 1, "miou_mean": 30.0, "miou_sd": 0.0}
    assert random == {"start": "random", "images": 2, "seeds": 2, "miou_mean": 12.0, "miou_sd": pytest.approx(8**0.5)}


def test_each_start_has_a_learning_rate_of_its_own(data, artifacts, tmp_path, tiny_bodies, monkeypatch):
    rates = []

    def note(*_, learning_rate, **__):
        rates.append(learning_rate)

    monkeypatch.setattr(few_labels, "finetune", note)
    measure(data, artifacts["backbone"], tmp_path / "a", learning_rate=0.1, random_learning_rate=0.2, seeds=1)
    assert rates == [0.1, 0.2, 0.1, 0.2]
