import pytest
import torch

from pipeline.data.views import Geometric, apply_geometric, draw_geometric
from pipeline.pretext.places import nearby_places, read_places, read_shared, shared_places


def crops(boxes, flip=None) -> Geometric:
    return Geometric(torch.tensor(boxes), torch.tensor(flip or [False] * len(boxes)))


def ramp(height: int, width: int) -> torch.Tensor:
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def places(batch: int, count: int = 16) -> torch.Tensor:
    return torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(0))


def test_shared_places_lie_in_both_crops():
    first, second = (draw_geometric(0, side, 0, range(50), min_area=0.3, flip=True) for side in ("a", "b"))
    shared, visible = shared_places(first, second, places(50))
    assert visible.float().mean() > 0.5
    for crop in (first, second):
        low, high = crop.boxes[:, None, :2], crop.boxes[:, None, 2:]
        inside = ((shared >= low - 1e-6) & (shared <= high + 1e-6)).all(2)
        assert inside[visible].all()


def test_shared_places_fill_the_overlap():
    corners = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]]])
    shared, visible = shared_places(crops([(0.0, 0.0, 0.6, 0.6)]), crops([(0.2, 0.4, 1.0, 1.0)]), corners)
    torch.testing.assert_close(shared, torch.tensor([[[0.2, 0.4], [0.6, 0.6], [0.4, 0.45]]]))
    assert visible.tolist() == [True]


@pytest.mark.parametrize("box", [(0.5, 0.0, 1.0, 1.0), (0.6, 0.0, 1.0, 1.0), (0.0, 0.5, 1.0, 0.9)])
def test_crops_that_do_not_overlap_are_told(box):
    _, visible = shared_places(crops([(0.0, 0.0, 0.5, 0.5)]), crops([box]), places(1))
    assert visible.tolist() == [False]


def test_both_views_read_the_same_place_of_the_frame():
    first, second = (draw_geometric(0, side, 0, range(40), min_area=0.3, flip=True) for side in ("a", "b"))
    shared, visible = shared_places(first, second, 0.1 + 0.8 * places(40))
    assert first.flip.any()
    assert not first.flip.all()
    frames = ramp(96, 96).expand(40, -1, -1, -1)
    for crop in (first, second):
        read = read_places(apply_geometric(frames, crop, (64, 64)), crop, shared)
        # within half a cell of a view's border there is nothing to interpolate with
        torch.testing.assert_close(read[visible], shared[visible], atol=0.012, rtol=0)
        low, high = crop.boxes[:, None, :2], crop.boxes[:, None, 2:]
        margin = (high - low) / 64
        central = ((shared > low + margin) & (shared < high - margin)).all(2) & visible[:, None]
        torch.testing.assert_close(read[central], shared[central], atol=1e-3, rtol=0)


def test_nearby_places_stay_in_their_crop():
    crop = crops([(0.2, 0.0, 0.7, 1.0)])
    spots = torch.tensor([[[0.3, 0.5], [0.25, 0.5], [0.6, 0.99]]])
    offsets = torch.tensor([[[0.1, -0.2], [-0.1, 0.0], [0.05, 0.1]]])
    moved = nearby_places(spots, offsets, crop)
    torch.testing.assert_close(moved, torch.tensor([[[0.4, 0.3], [0.2, 0.5], [0.65, 1.0]]]))


def test_view_2_is_read_beside_and_frames_without_overlap_are_left_out():
    first = crops([(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.4, 0.4), (0.0, 0.0, 1.0, 1.0)])
    second = crops([(0.0, 0.0, 1.0, 1.0), (0.6, 0.6, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)], [False, False, True])
    spots, offsets = 0.3 + 0.4 * places(3, 5), torch.full((3, 5, 2), 0.125)
    maps = torch.cat([apply_geometric(ramp(64, 64).expand(3, -1, -1, -1), crop, (64, 64)) for crop in (first, second)])
    one, two = read_shared(maps, (first, second), spots, offsets).chunk(2)
    kept = spots[[0, 2]].flatten(0, 1)
    torch.testing.assert_close(one, kept, atol=1e-3, rtol=0)
    torch.testing.assert_close(two, kept + 0.125, atol=1e-3, rtol=0)
