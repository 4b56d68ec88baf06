from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.doctor.costs import Rates, estimate_costs, measure_rates, peak_memory
from pipeline.params import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
RATES = Rates("cpu", 0.01, 0.02, 0.05, 0.015, 0.0, 48_000_000, 512)


def changed(group: str, **keys):
    return PARAMS.model_copy(update={group: getattr(PARAMS, group).model_copy(update=keys)})


def test_seconds_are_those_of_decoding_and_the_networks():
    params = changed("train", epochs=3, rounds=2, one_view=False)
    pretrain = params.pretrain.model_copy(update={"epochs": 10, "method": "dense_clusters"})
    params = params.model_copy(update={"pretrain": pretrain, "run": params.run.model_copy(update={"cache_mb": 0})})
    seconds = estimate_costs(params, 120, 100, (64, 96), RATES).seconds
    assert seconds["prepare"] == pytest.approx(120 * 0.01)
    assert seconds["pretrain"] == pytest.approx(100 * 10 * (0.01 + 2 * 0.02))
    assert seconds["extract"] == seconds["evaluate"] == pytest.approx(120 * 0.025)
    assert seconds["train"] == pytest.approx(100 * (7 * 0.01 + 6 * 2 * 0.05 + 0.015))


def test_frames_in_memory_are_decoded_once():
    costs = estimate_costs(changed("run", cache_mb=1000), 120, 100, (64, 96), RATES)
    assert costs.cache == 120 * 64 * 96 * 3
    less = estimate_costs(changed("run", cache_mb=0), 120, 100, (64, 96), RATES)
    assert less.cache == 0
    assert less.seconds["train"] > costs.seconds["train"]


def test_no_pre_training_takes_no_time():
    assert estimate_costs(changed("pretrain", method="none"), 9, 9, (64, 64), RATES).seconds["pretrain"] == 0


def test_bytes_follow_levels_dimension_and_frames():
    params = changed("extract", levels=[1, 2], source="res5", pca=0)
    sizes = estimate_costs(params, 10, 10, (64, 64), RATES).bytes
    assert sizes["extract"] == {"features": 10 * 5 * (2 * 512 + 24), "features kept in .fs4": 10 * 5 * 4 * 512}
    assert sizes["cluster"] == {"pseudo labels": 10 * 5 * 16, "cells in files": 0}
    assert sizes["evaluate"] == {"label maps": 10 * 64 * 64}
    for stage in ("pretrain", "train"):
        assert sizes[stage] == {"weights": 48_000_000, "checkpoints": 2 * 3 * 48_000_000}
    whitened = estimate_costs(changed("extract", levels=[1, 2], source="res5", pca=64), 10, 10, (64, 64), RATES)
    assert whitened.bytes["extract"]["features"] == 10 * 5 * (2 * 64 + 24)
    none = estimate_costs(changed("run", keep_features=False), 9, 9, (64, 64), RATES)
    assert none.bytes["extract"]["features kept in .fs4"] == 0


def test_clustering_takes_its_distances_and_the_largest_level_in_files():
    params = changed("pgg", k=[5, 10], restarts=3, iterations=7, max_points_per_centroid=10**6)
    params = params.model_copy(
        update={"extract": params.extract.model_copy(update={"levels": [1, 8], "source": "res5"})}
    )
    costs = estimate_costs(params, 10_000, 9000, (64, 64), replace(RATES, distance=1e-9))
    fitted = 9000 * 3 * 7 * 5 + 9000 * 64 * 3 * 7 * 10
    assert costs.seconds["cluster"] == pytest.approx(1e-9 * (fitted + 10_000 * 5 + 10_000 * 64 * 10))
    assert costs.bytes["cluster"]["cells in files"] == 9000 * 64 * 512 * 4
    sampled = estimate_costs(changed("pgg", max_points_per_centroid=100), 10**6, 10**6, (64, 64), RATES)
    assert sampled.bytes["cluster"]["cells in files"] == 0


def test_training_clusters_pixels_in_every_epoch_and_at_its_end():
    more, less = (estimate_costs(PARAMS, 9, 9, (64, 64), replace(RATES, distance=value)) for value in (1e-9, 0.0))
    grouped = PARAMS.train.clustering
    fits = PARAMS.train.epochs * grouped.restarts + grouped.final_draws * grouped.final_restarts
    expected = 1e-9 * PARAMS.train.k**2 * grouped.pixels_per_cluster * grouped.iterations * fits
    assert more.seconds["train"] - less.seconds["train"] == pytest.approx(expected)


def test_tiles_take_disk():
    assert estimate_costs(PARAMS, 10, 10, (64, 64), RATES, 3 * 64 * 64).bytes["prepare"]["tiles"] == 10 * 3 * 64 * 64
    assert estimate_costs(PARAMS, 10, 10, (64, 64), RATES).bytes["prepare"]["tiles"] == 0


def test_rates_are_measured():
    params = changed("pretrain", channels=16, view_size=32)
    rates = measure_rates(params, (32, 32), 0.5)
    assert min(rates.pretext, rates.train, rates.forward, rates.distance) > 0
    assert rates.decode == 0.5
    assert rates.weights > 40e6
    assert rates.dimension == 16
    assert peak_memory() > 1e8
