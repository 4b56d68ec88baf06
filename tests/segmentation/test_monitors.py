"""Runs that are made to collapse."""

import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.segmentation.model import UnitNorm
from pipeline.segmentation.trainee import SegmenterTrainee

GUARDED = {"min_used": 0.3, "max_share": 0.95, "min_effective_rank": 1.5}


def constant(self, features):
    return torch.nn.functional.normalize(torch.ones_like(features) + 0 * features, dim=1).float()


def test_an_encoder_that_gives_one_output_is_stopped_before_it_is_trained(tmp_path, train, monkeypatch):
    monkeypatch.setattr(UnitNorm, "forward", constant)
    with pytest.raises(
        TrainingError,
        match=r"epoch 1: the embeddings collapsed, effective_rank 1\.00 is below train\.min_effective_rank 1\.5; lower",
    ):
        train(tmp_path, cae={"enabled": False}, **GUARDED)


def test_embeddings_that_lose_their_directions_are_stopped(tmp_path, train, monkeypatch):
    # after the first epoch the segmenter tells one thing only: how bright a pixel is
    start, forward = SegmenterTrainee.begin_epoch, UnitNorm.forward

    def flatten(self, features):
        flat = torch.zeros_like(features)
        flat[:, 0], flat[:, 1] = 1.0, 0.1 * features.mean(1).tanh()
        return forward(self, flat)

    def collapse(self, epoch):
        if epoch:
            monkeypatch.setattr(UnitNorm, "forward", flatten)
        start(self, epoch)

    monkeypatch.setattr(SegmenterTrainee, "begin_epoch", collapse)
    with pytest.raises(TrainingError, match=r"epoch 2: the embeddings collapsed, effective_rank 1\.[0-4]"):
        train(tmp_path, cae={"enabled": False}, **GUARDED)


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ({"min_used": 0.3}, r"clusters_used 1 of 4 is below train\.min_used 0\.3"),
        ({"max_share": 0.95}, r"largest_share 1\.000 is above train\.max_share 0\.95"),
    ],
)
def test_clusters_that_end_as_one_are_stopped(tmp_path, train, monkeypatch, guard, said):
    # one view, because cutting view 2 adds rounding errors, which k-means then finds clusters in
    monkeypatch.setattr(UnitNorm, "forward", constant)
    with pytest.raises(TrainingError, match=rf"epoch 1: the clusters collapsed, {said}; lower train\.learning_rate"):
        train(tmp_path, cae={"enabled": False}, one_view=True, **guard)


def test_a_learning_rate_that_kills_the_network_is_stopped(tmp_path, train):
    with pytest.raises(TrainingError, match=r"epoch \d: the embeddings collapsed, effective_rank 1\.[0-4]"):
        train(tmp_path, epochs=4, learning_rate=10.0, head_learning_rate=10.0, pgg={"weight": 0.0}, **GUARDED)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_learning_rate_that_breaks_the_network_is_stopped(tmp_path, train, epochs):
    with pytest.raises(
        TrainingError, match=r"(epoch 2|final clustering): some embeddings are not finite numbers; lower"
    ):
        train(tmp_path, epochs=epochs, learning_rate=1e30, head_learning_rate=1e30)


def test_a_loss_that_stays_infinite_is_stopped(tmp_path, train):
    with pytest.raises(TrainingError, match="the loss was not a finite number in 3 steps in a row"):
        train(tmp_path, batch_size=1, learning_rate=1e30, head_learning_rate=1e30)


def test_a_sound_run_passes_all_monitors(tmp_path, train):
    rows = train(tmp_path, **GUARDED).curves.rows
    assert all(row["effective_rank"] > 1.5 and row["clusters_used"] > 1 for row in rows)
