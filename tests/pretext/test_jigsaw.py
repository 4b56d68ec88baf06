import numpy as np
import torch

from pipeline.pretext.jigsaw import PERMUTATIONS, choose_permutations, cut_tiles


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
