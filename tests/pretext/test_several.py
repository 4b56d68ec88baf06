"""Every method takes the steps of one process when several share its batches."""

from typing import Any

import pytest
import torch

from pipeline.pretext.methods import METHODS
from pipeline.pretext.pretrain import PretextTrainee
from pipeline.pretext.quality import ViewQuality
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.training.dealing import Dealing
from tests.pretext.conftest import settings, tiny_encoder, tiny_vit_encoder
from tests.pretext.test_methods import SMALL
from tests.several import run_processes

WORLD = 3
BATCHES = [[4, 0, 2, 1, 3], [1, 5], [0, 1, 2, 3, 4, 5]]  # the second one is too small to be dealt
SIZES = [(64, 64)] * 6
FRAMES = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def load(batches):
    return ((batch, FRAMES[batch]) for batch in batches)


def train_steps(name: str, ranks: Ranks) -> dict[str, Any]:
    """The scalars of some steps, the gradients of the first one, and the state after the last one."""
    side = 96 if name == "jigsaw" else 32
    # small crops, so that some images have no place in common
    changes = {**SMALL, "view_size": side, "dense_cells": 6, "optimizer": "sgd", "precision": "fp32", "momentum": 0.5}
    views = {"min_area": 0.05}
    backbone = "vit_small_patch16" if name == "mae" else "resnet18"
    params = settings(method=name, backbone=backbone, **changes, views=views, learning_rate=1e-3)
    torch.set_num_threads(1)
    model = METHODS[name](tiny_vit_encoder() if name == "mae" else tiny_encoder(), params)
    dealing = Dealing(ranks)
    trainee = PretextTrainee(model, params, SIZES, torch.device("cpu"), ViewQuality(params, SIZES, load), dealing)
    trainee.begin_epoch(0)
    scalars, grads = [], {}
    for indices, images in dealing.deal(BATCHES, load):
        trainee.optimizer.zero_grad()
        losses = trainee.losses(0, indices, images)
        losses["loss"].backward()
        dealing.average_gradients(model.parameters())
        scalars.append({key: float(value.detach()) for key, value in losses.items()})
        grads = grads or {key: weight.grad.clone() for key, weight in model.named_parameters() if weight.requires_grad}
        trainee.optimizer.step()
    return {"scalars": scalars, "grads": grads, "state": model.state_dict(), "row": trainee.end_epoch(0, scalars[0])}


def train_all(ranks: Ranks, folder) -> dict[str, Any]:
    return {name: train_steps(name, ranks) for name in METHODS}


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> list[dict[str, Any]]:
    return run_processes(train_all, tmp_path_factory.mktemp("several"), WORLD)


@pytest.mark.parametrize("name", METHODS)
def test_steps_are_those_of_one_process(several, name):
    alone = train_steps(name, ALONE)
    for rank in several:
        found = rank[name]
        assert found["scalars"] == several[0][name]["scalars"]
        for one, other in zip(alone["scalars"], found["scalars"], strict=True):
            assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
        largest = max(grad.abs().max() for grad in alone["grads"].values())
        for key, grad in alone["grads"].items():
            # float32 sums in another order; a gradient that is 0 in truth is noise of the largest ones
            torch.testing.assert_close(found["grads"][key], grad, rtol=1e-3, atol=float(1e-5 * largest), msg=key)
        for key, value in alone["state"].items():
            torch.testing.assert_close(found["state"][key], value, rtol=1e-3, atol=1e-4, msg=key)
            # queues, centres and statistics too: a process that went its own way would go ever farther
            assert torch.equal(found["state"][key], several[0][name]["state"][key]), key
