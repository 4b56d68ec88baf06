import numpy as np
import pytest

from pipeline.data.windows import Part, Window, mark_window, split_window


def test_a_window_goes_into_the_path_and_out_again():
    marked = mark_window("a#b/c.tif", Window(400, 0, 200, 300, (800, 600)))
    assert marked == "a#b/c.tif#xywh=400,0,200,300"
    assert split_window(marked) == ("a#b/c.tif", Part(slice(0, 300), slice(400, 600), None))


def test_what_a_tile_is_scored_on_goes_along():
    marked = mark_window("a.tif", Window(40, 10, 20, 30, (80, 60), (42, 10, 18, 25)))
    assert marked == "a.tif#xywh=40,10,20,30&own=42,10,18,25"
    path, part = split_window(marked)
    assert path == "a.tif"
    whole = np.arange(60 * 80).reshape(60, 80)
    mask = part.cut(whole).copy()
    part.hide_foreign(mask, -1)
    assert mask.shape == (30, 20)
    assert np.array_equal(mask[:25, 2:], whole[10:35, 42:60])
    assert (mask != -1).sum() == 18 * 25


@pytest.mark.parametrize("path", ["a.png", "a#xywh=1,2,3.png", "a#own=1,2,3,4", "#xywh=1,2,3,4/a.png"])
def test_a_path_without_a_window_stays(path):
    assert mark_window(path, None) == path
    assert split_window(path) == (path, None)
