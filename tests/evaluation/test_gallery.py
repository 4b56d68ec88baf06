import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.evaluation.gallery import Exhibit, choose_exhibits, write_gallery
from pipeline.evaluation.palette import cluster_colours, overlay, palette


@given(st.integers(0, 40), st.integers(0, 50))
def test_exhibits_are_as_many_as_asked_and_spread_evenly(images, count):
    ids = [f"{number:03d}" for number in range(images)]
    chosen = choose_exhibits(ids, count)
    assert len(chosen) == min(images, count)
    assert chosen <= set(ids)
    assert chosen == choose_exhibits(ids, count)
    if 2 <= count <= images:
        places = sorted(map(int, chosen))
        gaps = np.diff(places)
        assert (places[0], places[-1]) == (0, images - 1)
        assert gaps.max() - gaps.min() <= 1


def exhibit(number: int, truth: bool) -> Exhibit:
    rng = np.random.default_rng(number)
    mask = np.array([[0, 1, 255, 1], [1, 1, 0, 255]]) if truth else None
    labels = np.array([[0, 1, 2, 0], [2, 2, 1, 1]])
    return Exhibit(f"val/{number}.png", "val", rng.integers(0, 256, (3, 2, 4), dtype=np.uint8), labels, mask)


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.array(image)


def test_pictures_with_truth_have_the_colours_of_the_classes(tmp_path):
    shown = exhibit(0, truth=True)
    write_gallery([shown], tmp_path / "gallery", k=3, classes=2, class_of_cluster=(1, -1, 0))
    np.testing.assert_array_equal(read(tmp_path / "gallery" / "00-image.png"), shown.image.transpose(1, 2, 0))
    truth = read(tmp_path / "gallery" / "00-truth.png")
    np.testing.assert_array_equal(truth[shown.truth == 255], 0)
    np.testing.assert_array_equal(truth[shown.truth == 1], np.tile(palette(2)[1], (4, 1)))
    prediction = read(tmp_path / "gallery" / "00-prediction.png")
    colours = cluster_colours((1, -1, 0), 2)
    np.testing.assert_array_equal(prediction, colours[shown.labels])
    np.testing.assert_array_equal(prediction[shown.labels == 0][0], palette(2)[1])
    expected = overlay(shown.image.transpose(1, 2, 0), prediction, 0.5)
    np.testing.assert_array_equal(read(tmp_path / "gallery" / "00-overlay.png"), expected)


def test_pictures_without_truth_have_the_colours_of_the_clusters(tmp_path):
    shown = exhibit(0, truth=False)
    write_gallery([shown], tmp_path / "gallery", k=3, classes=None, class_of_cluster=None)
    np.testing.assert_array_equal(read(tmp_path / "gallery" / "00-prediction.png"), palette(3)[shown.labels])
    assert not (tmp_path / "gallery" / "00-truth.png").exists()


@pytest.mark.parametrize("truth", [True, False])
def test_the_listing_names_all_pictures_in_order(tmp_path, truth):
    shown = [exhibit(number, truth) for number in range(11)]
    write_gallery(
        shown, tmp_path / "gallery", k=3, classes=2 if truth else None, class_of_cluster=(0, 1, -1) if truth else None
    )
    listing = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert [entry["image_id"] for entry in listing] == [f"val/{number}.png" for number in range(11)]
    assert listing[10]["image"] == "10-image.png"
    kinds = ("image", "prediction", "overlay", "truth")
    for entry in listing:
        assert set(entry) == {"image_id", "split", *kinds}
        assert (entry["truth"] is None) != truth
    named = {entry[kind] for entry in listing for kind in kinds} - {None}
    assert named == {path.name for path in (tmp_path / "gallery").glob("*.png")}


def test_an_empty_gallery_is_an_empty_listing(tmp_path):
    write_gallery([], tmp_path / "gallery", k=3, classes=None, class_of_cluster=None)
    assert json.loads((tmp_path / "gallery" / "gallery.json").read_text()) == []
