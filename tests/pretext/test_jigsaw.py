import numpy as np
import torch

from pipeline.pretext.jigsaw import PERMUTATIONS, Jigsaw, choose_permutations, cut_tiles
from tests.pretext.conftest import assert_teaches_as, pooled, settings, sharpened, tiny_encoder, view_batch


def test_permutations_are_different_and_far_from_each_other():
    chosen = choose_permutations(PERMUTATIONS)
    assert chosen.shape == (100, 9)
    assert all(sorted(order) == list(range(9)) for order in chosen.tolist())
    distance = (chosen[:, None] != chosen[None]).sum(2) + 9 * np.eye(100, dtype=int)
    assert distance.min() >= 6  # random ones come as near as 3 or 4
    np.testing.assert_array_equal(choose_permutations(5), chosen[:5])


def test_the_first_permutations_are_the_greedy_choice():
    chosen = choose_permutations(3).tolist()
    assert chosen[0] == list(range(9))
    assert chosen[1] == [1, 0, 3, 2, 5, 4, 7, 8, 6]  # the first without any tile in place
    assert all(len({order[i] for order in chosen}) == 3 for i in range(9))


def test_tiles_lie_in_their_cells_with_room_between_and_are_normalised():
    ramp = torch.arange(96.0).expand(96, 96)
    view = torch.stack([ramp, ramp.T, ramp + ramp.T])[None]
    places = torch.zeros(1, 9, 2)
    places[:, 4] = 0.999
    tiles = cut_tiles(view, places)
    assert tiles.shape == (1, 9, 3, 32, 32)
    torch.testing.assert_close(tiles.mean((3, 4)), torch.zeros(1, 9, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(tiles.std((3, 4)), torch.ones(1, 9, 3), atol=1e-4, rtol=0)
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    blank = noise.clone()
    blank[:, :, 32:64, 32:64] = 0  # the middle cell
    for number, (one, other) in enumerate(zip(cut_tiles(noise, places)[0], cut_tiles(blank, places)[0], strict=True)):
        assert torch.equal(one, other) == (number != 4)
    edges = noise.clone()
    edges[:, :, 32:37, 32:64] = 0  # above the lowest place of a tile of 27 pixels in a cell of 32
    assert torch.equal(cut_tiles(noise, places)[0, 4], cut_tiles(edges, places)[0, 4])


def test_tiles_have_the_published_size_at_the_published_view():
    assert cut_tiles(torch.rand(1, 3, 224, 224), torch.zeros(1, 9, 2)).shape == (1, 9, 3, 64, 64)


def test_the_permutation_of_the_tiles_is_told():
    params = settings(method="jigsaw", channels=8, view_size=96, projection={"hidden": 8, "width": 6})
    model, batch = sharpened(Jigsaw(tiny_encoder(), params)), view_batch(3, side=96, seed=1)
    tiles = cut_tiles(batch.views[0], batch.draw("tiles", 18).view(3, 9, 2))
    losses, labels = [], []
    for image in range(3):
        label = int(100 * batch.draw("permutation", 1)[image, 0])
        order = choose_permutations(100)[label]
        seen = [model.project(pooled(model.encoder.backbone, tiles[image, number])) for number in order]
        chances = model.classify(torch.cat(seen, dim=1))[0].softmax(0)
        losses.append(-torch.log(chances[label]))
        labels.append(label)
    assert len(set(labels)) == 3
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(losses).mean())
