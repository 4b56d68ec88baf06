import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.palette import boundaries, cluster_colours, colourise, overlay, palette

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def linear(colours):
    return (colours / 255.0) ** 2.2


def closest_pair(points):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return distances[np.triu_indices(len(points), 1)].min()


@pytest.mark.parametrize("n", [0, 1, 12, 13, 27, 500])
def test_palette_has_n_distinct_colours(n):
    colours = palette(n)
    assert colours.shape == (n, 3)
    assert colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == n
    assert (colours.max(axis=1, initial=0) > 60).all()  # never near black, the colour of unlabelled pixels


def test_a_short_palette_is_the_start_of_a_long_one():
    assert (palette(600)[:27] == palette(27)).all()
    assert (palette(27)[:5] == palette(5)).all()
    assert (palette(1024)[512:] == palette(512)).all()


def test_colours_are_apart():
    assert closest_pair(palette(12).astype(float)) > 50
    assert closest_pair(palette(27).astype(float)) > 40
    assert closest_pair(palette(500).astype(float)) > 10


def test_first_colours_are_apart_without_red_green_vision():
    seen = np.clip(linear(palette(12)) @ DEUTERANOPIA.T, 0, 1) ** (1 / 2.2)
    assert closest_pair(255 * seen) > 25


def test_changing_a_palette_changes_no_later_one():
    palette(20)[:] = 0
    assert palette(20).any(axis=1).all()


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="-1"):
        palette(-1)


def test_matched_clusters_have_class_colours_and_the_others_greys():
    colours = cluster_colours([1, -1, 0, -1], classes=3)
    assert colours[[0, 2]].tolist() == palette(3)[[1, 0]].tolist()
    greys = colours[[1, 3]]
    assert (greys == greys[:, :1]).all()
    assert greys[0, 0] != greys[1, 0]


def test_cluster_colours_without_unmatched_clusters():
    assert (cluster_colours([2, 0, 1], classes=3) == palette(3)[[2, 0, 1]]).all()
    with pytest.raises(ValueError, match=r"-1\.\.2"):
        cluster_colours([3], classes=3)


@given(st.lists(st.lists(st.integers(-3, 300), min_size=3, max_size=3), min_size=1, max_size=5))
def test_colourise_is_a_lookup_with_void(rows):
    labels = np.array(rows, dtype=np.int32)
    colours = palette(9)
    painted = colourise(labels, colours, void=(1, 2, 3))
    for position, label in np.ndenumerate(labels):
        expected = colours[label].tolist() if 0 <= label < 9 else [1, 2, 3]
        assert painted[position].tolist() == expected


def test_colourise_takes_unsigned_labels():
    assert colourise(np.array([[255]], dtype=np.uint8), palette(3)).tolist() == [[[0, 0, 0]]]


def test_overlay_mixes_inside_and_keeps_borders():
    image = np.full((4, 6, 3), 100, dtype=np.uint8)
    painted = colourise(np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0), palette(2))
    mixed = overlay(image, painted, 0.5)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == np.round(50 + palette(2)[0] / 2).astype(int).tolist()
    assert (mixed[:, 2:4] == painted[:, 2:4]).all()
    assert (overlay(image, painted, 0.0) == image).all()
    assert (overlay(image, painted, 1.0) == painted).all()


def test_overlay_refuses_what_does_not_fit():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="shape"):
        overlay(image, image[:2], 0.5)
    with pytest.raises(ValueError, match="opacity"):
        overlay(image, image, 1.5)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_boundaries_agree_with_a_slow_reference(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width))
    expected = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and labels[v, u] != labels[y, x]:
                    expected[y, x] = True
    assert (boundaries(labels) == expected).all()
    assert (boundaries(colourise(labels, palette(3))) == expected).all()
