import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.params import DenseClustersParams
from pipeline.pretext.place_clusters import PlaceClusters, prediction_loss
from pipeline.pretext.places import read_pair, read_shared
from tests.pretext.conftest import view_batch

SETTINGS = DenseClustersParams(count=5, temperature=0.1, epsilon=0.2, iterations=3, queue=0, extra_views=0)
QUEUE = SETTINGS.model_copy(update={"queue": 60})


def cosines(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, SETTINGS.count, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def slow_codes(telling: np.ndarray) -> np.ndarray:
    codes = np.exp(telling / SETTINGS.epsilon)
    for _ in range(SETTINGS.iterations):
        codes = codes / codes.sum(0, keepdims=True) * len(codes) / codes.shape[1]
        codes = codes / codes.sum(1, keepdims=True)
    return codes


def slow_loss(told: np.ndarray, codes: np.ndarray) -> float:
    total = 0.0
    for row, code in zip(told / SETTINGS.temperature, codes, strict=True):
        total -= float((code * (row - np.log(np.exp(row).sum()))).sum()) / len(told)
    return total


@pytest.mark.parametrize("past", [0, 7])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_view_predicts_the_balanced_codes_of_the_other(n, past):
    told, telling, older = cosines(n, 0), cosines(n, 1), cosines(past, 2)
    codes = slow_codes(torch.cat([older, telling]).double().numpy())[past:]
    found = prediction_loss(told, telling, SETTINGS, older if past else None)
    assert found.item() == pytest.approx(slow_loss(told.double().numpy(), codes), rel=1e-4)


def test_the_codes_carry_no_gradient():
    told, telling = cosines(8, 0).requires_grad_(), cosines(8, 1).requires_grad_()
    loss = prediction_loss(told, telling, SETTINGS)
    of_told, of_telling = torch.autograd.grad(loss, (told, telling), allow_unused=True)
    # cross-entropy with fixed targets: softmax minus code, which sums to 0 over the clusters
    assert of_told.sum(1).abs().max() < 1e-6
    assert of_told.abs().max() > 1e-4
    assert of_telling is None


def head(params: DenseClustersParams) -> PlaceClusters:
    torch.manual_seed(0)
    return PlaceClusters(4, params)


def maps(seed: int = 0, frames: int = 6, side: int = 8) -> torch.Tensor:
    return torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_mean_over_all_pairs_of_views():
    model, batch = head(SETTINGS).eval(), view_batch(3, extra=2)
    large, small = maps(), maps(1, side=4)

    def scores(rows):
        return F.normalize(model.project_place(rows), dim=1) @ F.normalize(model.clusters, dim=1).T

    with torch.no_grad():
        found, embeddings = model(large, small, batch)
        first, second = scores(read_shared(large, batch.crops, batch.places, batch.offsets)).chunk(2)
        losses = [prediction_loss(first, second, SETTINGS), prediction_loss(second, first, SETTINGS)]
        for extra, extra_map in zip(batch.extra, small.chunk(2), strict=True):
            for view in (0, 1):
                cut = (batch.crops[view], extra.crop)
                telling, told = read_pair((large.chunk(2)[view], extra_map), cut, extra.places, extra.offsets)
                losses.append(prediction_loss(scores(told), scores(telling), SETTINGS))
    assert len(losses) == 6
    assert found.item() == pytest.approx(float(np.mean(losses)), rel=1e-5)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2 * 3 * 16))


def test_large_views_learn_nothing_from_extra_ones_but_the_extra_ones_do():
    model, batch = head(SETTINGS).eval(), view_batch(3, extra=1)
    large, small = maps().requires_grad_(), maps(1, 3, 4).requires_grad_()
    with_extra = torch.autograd.grad(model(large, small, batch)[0], (large, small))
    alone = torch.autograd.grad(model(large, None, batch)[0], large)[0]
    torch.testing.assert_close(with_extra[0] * 2, alone)  # 2 of 4 pairs are of the large views
    assert with_extra[1].abs().max() > 0


def test_the_queue_counts_once_it_is_full_and_holds_the_latest_places_of_each_view():
    torch.manual_seed(0)
    model, plain, batch = head(QUEUE), head(SETTINGS), view_batch(3, places=10)
    losses = []
    for step in range(3):
        losses.append([one(maps(step), None, batch)[0].item() for one in (model, plain)])
        assert int(model.queued) == min(60, 30 * (step + 1))
    assert [one == other for one, other in losses] == [True, True, False]
    # the queue of two steps, oldest first
    model.eval()
    fresh = head(QUEUE)
    expected = []
    for step in (1, 2):
        rows = read_shared(maps(step), batch.crops, batch.places, batch.offsets)
        expected.append(F.normalize(fresh.project_place(rows), dim=1).view(2, 30, -1))
    torch.testing.assert_close(model.queue, torch.cat(expected, dim=1))


def test_the_queue_is_part_of_the_state_and_left_alone_by_evaluation_and_bad_steps():
    model, batch = head(QUEUE), view_batch(3)
    model(maps(), None, batch)
    kept = {key: value.clone() for key, value in model.state_dict().items() if "queue" in key}
    assert set(kept) == {"queue", "queued"}
    model(maps() * float("nan"), None, batch)
    model.eval()
    model(maps(), None, batch)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in kept.items())
