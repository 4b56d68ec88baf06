import torch

from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.training.dealing import BUCKET, Dealing
from tests.several import run_processes

WORLD = 3
VIEWS = 2
BATCHES = [[7, 3, 1, 0, 6], [2, 5], [4, 8, 9]]
WHOLE = torch.arange(10.0)


def load(batches):
    for batch in batches:
        yield batch, WHOLE[batch]


def embed(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Two views of two rows an image, (2 * B * 2, 1)."""
    rows = torch.stack([images, images + 0.5], dim=1).flatten()[:, None] * weight
    return torch.cat([rows, -rows])


def look_across(ranks: Ranks, folder) -> list[dict]:
    """Losses that no mean over parts of the batch would give, and their gradients."""
    dealing, found = Dealing(ranks), []
    for indices, images in dealing.deal(BATCHES, load):
        before, behind, heavy = (torch.nn.Parameter(torch.full((1,), value)) for value in (1.5, 0.5, 1.0))
        rows = dealing.gather(embed(images, before), VIEWS)
        odd = [part[part[:, 0].abs().round() % 2 == 1] for part in embed(images, before).chunk(VIEWS)]
        first, second = dealing.gather_ragged(odd)
        nothing = dealing.gather_ragged([images[:0, None] * before])[0]
        summed = dealing.total(torch.stack([(images * before).sum(), (images * heavy).square().sum()]))
        loss = (rows * behind).softmax(0).square().sum() + first.sum() * second.square().sum() + summed[0] / summed[1]
        loss = loss + dealing.mean((images * before).square().mean()) + nothing.sum()
        loss.backward()
        dealing.average_gradients([before, behind, heavy])
        labels = dealing.gather(torch.tensor(indices))
        found.append(
            {
                "indices": indices,
                "whole": labels,
                "own": dealing.own(labels * 10),
                "flags": dealing.gather(torch.tensor(indices) > 3),
                "counts": dealing.counts_here,
                "loss": loss.detach(),
                "grads": [weight.grad for weight in (before, behind, heavy)],
            }
        )
    wide = [torch.nn.Parameter(torch.zeros(size)) for size in (BUCKET // 2, BUCKET // 2 + 1, 3)]
    for number, weight in enumerate(wide):
        weight.grad = torch.full_like(weight, float(ranks.rank + number))
    unused = torch.nn.Parameter(torch.zeros(2))
    dealing.average_gradients([wide[0], unused, *wide[1:]])
    assert unused.grad is None
    found.append({"averaged": [float(weight.grad.unique()) for weight in wide]})
    return found


def test_losses_over_the_whole_batch_and_their_gradients_are_those_of_one_process(tmp_path):
    alone = look_across(ALONE, tmp_path)
    several = run_processes(look_across, tmp_path, WORLD)
    assert [rank[0]["indices"] for rank in several] == [[7, 3], [1, 0], [6]]
    # fewer images than processes: all of them do the whole batch, and the first one counts it
    assert [rank[1]["indices"] for rank in several] == [[2, 5]] * WORLD
    assert [[step["counts"] for step in rank[:3]] for rank in several] == [[True] * 3, *[[True, False, True]] * 2]
    for rank in several:
        for expected, found in zip(alone[:3], rank[:3], strict=True):
            assert torch.equal(found["whole"], expected["whole"])
            assert torch.equal(found["flags"], expected["flags"])
            assert found["own"].tolist() == [10 * index for index in found["indices"]]
            torch.testing.assert_close(found["loss"], expected["loss"])
            torch.testing.assert_close(found["grads"], expected["grads"])
        assert rank[3]["averaged"] == [1.0, 2.0, 3.0]
    assert [step["loss"] for step in several[0][:3]] == [step["loss"] for step in several[1][:3]]


def test_alone_nothing_is_changed():
    dealing = Dealing()
    rows, weight = torch.rand(4, 2), torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    for indices, images in dealing.deal([[1, 2]], load):
        assert indices == [1, 2]
        assert images.tolist() == [1.0, 2.0]
        assert dealing.counts_here
        assert not dealing.is_shared
    assert dealing.gather(rows, 2) is rows
    assert dealing.gather_ragged([rows])[0] is rows
    assert dealing.total(rows) is dealing.mean(rows) is dealing.own(rows) is rows
    dealing.average_gradients([weight])
    assert weight.grad == 1
