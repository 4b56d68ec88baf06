import torch

from pipeline.pretext.densecl import match_cells


def test_a_cell_is_matched_to_the_one_most_alike():
    rng = torch.Generator().manual_seed(0)
    maps, others = torch.randn(2, 5, 2, 3, generator=rng), torch.randn(2, 5, 3, 2, generator=rng)
    found = match_cells(maps, 7 * others)
    assert found.shape == (2, 6)
    for b in range(2):
        for i in range(6):
            cell = maps[b, :, i // 3, i % 3]
            cosines = [float(cell @ others[b, :, j // 2, j % 2] / others[b, :, j // 2, j % 2].norm()) for j in range(6)]
            assert found[b, i] == max(range(6), key=cosines.__getitem__)
