"""Views mirrored upside down and turned by quarters, against slicing and `torch.rot90`."""

import pytest
import torch

from pipeline.data.views import Geometric, apply_geometric, draw_geometric
from pipeline.pretext.places import read_places
from pipeline.segmentation.view_cells import view_cells

DRAWN = draw_geometric(0, "test", 0, range(40), min_area=0.3, flip=True, flip_vertical=True, rotate=True)


def noise(count: int, side: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_without_switches_nothing_changes():
    plain = draw_geometric(3, "p", 1, range(20), min_area=0.3, flip=True)
    assert plain.flip_down is None
    assert plain.swap is None
    both = draw_geometric(3, "p", 1, range(20), min_area=0.3, flip=True, flip_vertical=True)
    assert torch.equal(both.boxes, plain.boxes)
    assert torch.equal(both.flip, plain.flip)
    assert both.flip_down is not None
    assert 0 < both.flip_down.sum() < 20
    assert both.swap is not None
    assert not both.swap.any()


@pytest.mark.parametrize("flips", [False, True])
def test_quarter_turns_are_rotations_and_all_occur(flips):
    size, images = 12, noise(64)
    keys = {"min_area": 1.0, "flip": flips, "flip_vertical": flips, "max_stretch": 1.0}
    drawn = draw_geometric(0, "p", 0, range(64), rotate=True, **keys)
    views = apply_geometric(images, drawn, (size, size))
    seen = set()
    for image, view in zip(images, views, strict=True):
        candidates = {(turn, False): torch.rot90(image, turn, (1, 2)) for turn in range(4)}
        candidates |= {(turn, True): torch.rot90(image.flip(2), turn, (1, 2)) for turn in range(4)}
        found = [name for name, other in candidates.items() if torch.allclose(view, other, atol=1e-5)]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == (8 if flips else 4)
    assert {mirrored for _, mirrored in seen} == ({False, True} if flips else {False})


def test_switches_apply_to_the_box():
    images = noise(1)
    box = torch.tensor([[1 / 3, 0.0, 1.0, 2 / 3]])
    part = images[0, :, :8, 4:]
    yes, no = torch.tensor([True]), torch.tensor([False])
    for flip, down, swap, expected in (
        (no, yes, no, part.flip(1)),
        (yes, yes, no, part.flip(1).flip(2)),
        (no, no, yes, part.transpose(1, 2)),
        (yes, no, yes, part.flip(2).transpose(1, 2)),
    ):
        view = apply_geometric(images, Geometric(box, flip, down, swap), (8, 8))[0]
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)


def test_places_go_into_the_view_and_back():
    u, v = torch.rand(2, 40, 7, generator=torch.Generator().manual_seed(1)).unbind(0)
    back = DRAWN.view_place(*DRAWN.place(u, v))
    torch.testing.assert_close(back, (u, v))


def ramp(height: int, width: int) -> torch.Tensor:
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def test_both_views_read_the_same_place_of_the_frame():
    low, high = DRAWN.boxes[:, None, :2], DRAWN.boxes[:, None, 2:]
    inside = 0.1 + 0.8 * torch.rand(40, 9, 2, generator=torch.Generator().manual_seed(2))
    places = low + inside * (high - low)
    views = apply_geometric(ramp(96, 96).expand(40, -1, -1, -1), DRAWN, (64, 64))
    torch.testing.assert_close(read_places(views, DRAWN, places), places, atol=2e-3, rtol=0)


def test_each_pixel_lies_in_the_cell_that_it_shows():
    shown = apply_geometric(ramp(192, 192).expand(40, -1, -1, -1), DRAWN, (24, 24))
    expected = (shown[:, 1] * 4).long() * 4 + (shown[:, 0] * 4).long()
    # pixels on the border between two cells may be rounded to either
    assert (view_cells(DRAWN, 4, (24, 24)) == expected).float().mean() > 0.97
