"""The segmenter's training takes the same course when several processes share its batches."""

from typing import Any

import pytest
import torch

from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.interrupts import Interrupted, StopSignal
from pipeline.segmentation.cell_prior import CellPrior
from pipeline.training.dealing import Dealing
from tests.segmentation.conftest import Loader, make_trainee, run_training
from tests.several import run_processes

WORLD = 2
BATCHES = [[4, 0, 2, 1, 3], [5]]  # the second one is too small to be dealt
# what looks across the images of a batch, or across batches
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "contrast": {"pgg": {"use": ["contrast"]}, "mse_weight": 1.0, "cluster_weights": "inverse_sqrt"},
    "balanced": {"assignment": {"method": "balanced", "teacher_momentum": 0.5}},
    "prior": {"pgg": {"use": ["prior", "strata"]}},
    "merged": {"clustering": {"fine_clusters": 8, "merge": "view_confusion"}},
    "context": {"cae": {"enabled": True, "gamma": 0.5}},
}
ROUNDS = {"rounds": 2, "epochs": 1}


def train_steps(ranks: Ranks, **changes: Any) -> dict[str, Any]:
    """Two steps of an epoch from fixed prototypes, which k-means would make of numbers that differ in the last bits."""
    torch.manual_seed(0)
    dealing = Dealing(ranks)
    trainee = make_trainee(dealing=dealing, warmup_epochs=0, **changes)
    prototypes = trainee.prototypes
    trainee._set_training()
    prototypes.centroids = torch.nn.functional.normalize(torch.randn(prototypes.centroids.shape), dim=2) / 2
    prototypes.sizes += torch.arange(1, 5)
    for prior in prototypes.priors:
        assert isinstance(prior, CellPrior)
        for counts in prior.counts:
            counts += torch.randint(0, 9, counts.shape)
    scalars, grads = [], {}
    loader = Loader(StopSignal())
    for indices, images in dealing.deal(BATCHES, loader):
        trainee.optimizer.zero_grad()
        losses = trainee.losses(0, indices, images)
        losses["loss"].backward()
        weights = dict(trainee.segmenter.named_parameters()) | dict(trainee.guidance.named_parameters())
        dealing.average_gradients(weights.values())
        scalars.append({key: float(value.detach()) for key, value in losses.items()})
        grads = grads or {key: weight.grad.clone() for key, weight in weights.items() if weight.grad is not None}
    buffers = {key: value for key, value in trainee.result.state_dict().items() if "running" in key}
    return {"scalars": scalars, "grads": grads, "buffers": buffers, "histogram": trainee.monitors.histogram}


def train_all(ranks: Ranks, folder) -> dict[str, Any]:
    """Steps of all options, and whole trainings: not interrupted, stopped by a signal to one process, and resumed."""
    found: dict[str, Any] = {name: train_steps(ranks, **changes) for name, changes in OPTIONS.items()}
    own = folder / "first" if ranks.is_first else folder / f"other-{ranks.rank}"
    found["whole"] = of_run(run_training(own / "whole", ranks=ranks, **ROUNDS))
    with pytest.raises(Interrupted):
        # the others are stopped at the same step
        stop_at = None if ranks.is_first else 5
        run_training(own / "stopped", stop_at, ranks=ranks, **ROUNDS)
    found["kept"] = sorted(path.name for path in own.rglob("checkpoint-*"))
    found["resumed"] = of_run(run_training(own / "stopped", ranks=ranks, **ROUNDS))
    return found


def of_run(run) -> dict[str, Any]:
    return {
        "rows": run.curves.rows,
        "state": run.segmenter.state_dict(),
        "prototypes": run.clustering.prototypes,
        "statistics": run.statistics,
    }


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> list[dict[str, Any]]:
    return run_processes(train_all, tmp_path_factory.mktemp("several"), WORLD)


@pytest.mark.parametrize("name", OPTIONS)
def test_steps_are_those_of_one_process(several, name):
    alone = train_steps(ALONE, **OPTIONS[name])
    for found in (rank[name] for rank in several):
        assert found["scalars"] == several[0][name]["scalars"]
        for one, other in zip(alone["scalars"], found["scalars"], strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-5)
        largest = float(max(grad.abs().max() for grad in alone["grads"].values()))
        assert found["grads"].keys() == alone["grads"].keys()
        for key, grad in alone["grads"].items():
            torch.testing.assert_close(found["grads"][key], grad, rtol=1e-2, atol=1e-4 * largest, msg=key)
        torch.testing.assert_close(found["buffers"], alone["buffers"], rtol=1e-3, atol=1e-4)
        assert found["histogram"].sum() == alone["histogram"].sum()
        assert (found["histogram"] - alone["histogram"]).abs().sum() <= 4  # a pixel between two prototypes


def test_whole_trainings_agree_and_all_processes_end_with_the_same(several, tmp_path):
    alone = of_run(run_training(tmp_path, **ROUNDS))
    first, second = (rank["whole"] for rank in several)
    for key in alone["rows"][0]:
        assert first["rows"][0][key] == pytest.approx(alone["rows"][0][key], rel=0.01, abs=0.01), key
    assert [row.keys() for row in first["rows"]] == [row.keys() for row in alone["rows"]]
    assert first["statistics"]["pixels_fitted"] == alone["statistics"]["pixels_fitted"]
    assert first["rows"] == second["rows"]
    assert first["statistics"] == second["statistics"]
    assert all(torch.equal(value, second["state"][key]) for key, value in first["state"].items())


def test_stopped_by_one_process_and_resumed_is_the_same_bit_for_bit(several):
    assert several[0]["kept"]
    assert several[1]["kept"] == []  # the first process writes
    for rank in several:
        assert rank["resumed"]["rows"] == rank["whole"]["rows"]
        assert rank["resumed"]["statistics"] == rank["whole"]["statistics"]
        for key, value in rank["whole"]["state"].items():
            assert torch.equal(rank["resumed"]["state"][key], value), key
