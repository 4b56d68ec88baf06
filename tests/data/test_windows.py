import pytest

from pipeline.data.windows import Window, mark_window, split_window


def test_a_window_goes_into_the_path_and_out_again():
    marked = mark_window("a#b/c.tif", Window(400, 0, 200, 300, (800, 600)))
    assert marked == "a#b/c.tif#xywh=400,0,200,300"
    assert split_window(marked) == ("a#b/c.tif", (slice(0, 300), slice(400, 600)))


@pytest.mark.parametrize("path", ["a.png", "a#xywh=1,2,3.png", "#xywh=1,2,3,4/a.png"])
def test_a_path_without_a_window_stays(path):
    assert mark_window(path, None) == path
    assert split_window(path) == (path, None)
