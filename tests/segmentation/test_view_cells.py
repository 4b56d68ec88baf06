import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import Geometric, apply_geometric, draw_geometric
from pipeline.segmentation.view_cells import pixel_labels, view_cells, whole_frames


def slow_cells(box, flip, cells, h, w):
    x0, y0, x1, y1 = map(float, box)
    found = torch.empty(h, w, dtype=torch.int64)
    for i in range(h):
        for j in range(w):
            u = (j + 0.5) / w
            x, y = x0 + (x1 - x0) * (1 - u if flip else u), y0 + (y1 - y0) * (i + 0.5) / h
            found[i, j] = min(int(y * cells), cells - 1) * cells + min(int(x * cells), cells - 1)
    return found


@pytest.mark.parametrize("cells", [1, 2, 3, 8])
def test_each_pixel_lies_in_the_cell_of_its_centre(cells):
    crop = draw_geometric(0, "test", 0, range(6), min_area=0.3, flip=True)
    assert 0 < crop.flip.sum() < 6
    found = view_cells(crop, cells, (6, 9))
    for b in range(6):
        assert torch.equal(found[b], slow_cells(crop.boxes[b], bool(crop.flip[b]), cells, 6, 9))


def test_the_cells_move_as_the_features_do():
    crop = Geometric(torch.tensor([[0.1, 0.2, 0.8, 0.9], [0.0, 0.3, 0.6, 1.0]]), torch.tensor([False, True]))
    whole = F.one_hot(view_cells(whole_frames(2), 4, (64, 64)), 16).permute(0, 3, 1, 2)
    moved = apply_geometric(whole, crop, (32, 32)).argmax(1)
    found = view_cells(crop, 4, (32, 32))
    assert (moved == found).float().mean() > 0.98
    assert (moved.flip(2) == found).float().mean() < 0.7


def test_the_whole_frame_has_its_cells_row_by_row():
    assert view_cells(whole_frames(1), 2, (2, 4)).tolist() == [[[0, 0, 1, 1], [2, 2, 3, 3]]]


def test_labels_follow_their_cells():
    labels = torch.tensor([[5, 6, 7, -1], [0, 1, 2, 3]])
    crop = Geometric(torch.tensor([[0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([False, True]))
    found = pixel_labels(labels, crop, 2, (2, 2))
    assert found.tolist() == [[[6, 6], [-1, -1]], [[1, 0], [3, 2]]]
