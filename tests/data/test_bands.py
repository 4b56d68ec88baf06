import random

import numpy as np
import pytest

from pipeline.data.bands import Bands, BandsCensus
from pipeline.errors import InputError


def scaled(*ranges: tuple[float, float]) -> Bands:
    low, high = zip(*ranges, strict=True)
    return Bands("float32", low, high, (0.5,) * len(ranges), (0.2,) * len(ranges))


def test_values_become_levels_channel_by_channel():
    pixels = np.array([[[-1.0, 100.0], [0.0, 200.0], [0.5, 150.0], [9.0, 300.0]]])
    levels = scaled((0.0, 1.0), (100.0, 200.0)).scale(pixels)
    assert levels.dtype == np.uint8
    assert levels.tolist() == [[[0, 0], [0, 255], [128, 128], [255, 255]]]


def test_files_of_8_bits_keep_their_levels():
    census = BandsCensus(2, 1, seed=0)
    pixels = np.random.default_rng(0).integers(40, 90, (30, 20, 2), dtype=np.uint8)
    census.add("a", pixels, train=True)
    bands = census.finish()
    assert (bands.low, bands.high) == ((0.0, 0.0), (255.0, 255.0))
    np.testing.assert_array_equal(bands.scale(pixels), pixels)
    assert bands.mean == pytest.approx((pixels / 255).mean((0, 1)), abs=0.02)


def test_the_scale_comes_from_train_and_leaves_outliers_out():
    rng = np.random.default_rng(0)
    pixels = rng.uniform((100, 1000), (200, 5000), (200, 200, 2)).astype(np.float32)
    pixels[0, 0] = 1e9
    census = BandsCensus(2, 2, seed=0)
    census.add("train/a", pixels, train=True)
    census.add("val/a", pixels * 100, train=False)
    bands = census.finish()
    assert bands.low == pytest.approx((100.5, 1020), rel=0.01)
    assert bands.high == pytest.approx((199.5, 4980), rel=0.01)
    assert bands.mean == pytest.approx((0.5, 0.5), abs=0.02)
    assert bands.std == pytest.approx((12**-0.5,) * 2, abs=0.02)


def test_the_order_of_the_images_does_not_matter():
    rng = np.random.default_rng(0)
    images = [(f"{n}", rng.integers(0, 4000, (40, 30, 3), dtype=np.uint16)) for n in range(20)]
    found = []
    for seed in (1, 2):
        random.Random(seed).shuffle(images)
        census = BandsCensus(3, 20, seed=0)
        for image_id, pixels in images:
            census.add(image_id, pixels, train=True)
        found.append(census.finish())
    assert found[0] == found[1]


def test_a_constant_channel_is_harmless():
    census = BandsCensus(1, 1, seed=0)
    census.add("a", np.full((5, 5, 1), 7, np.int32), train=True)
    bands = census.finish()
    assert (bands.low, bands.high, bands.mean) == ((7.0,), (8.0,), (0.0,))
    assert bands.std[0] > 0
    assert not bands.scale(np.full((2, 2, 1), 7, np.int32)).any()


def test_values_of_several_types_are_refused_with_an_example_of_each():
    census = BandsCensus(1, 3, seed=0)
    for image_id, kind in (("train/b.tif", np.uint16), ("train/a.tif", np.uint16), ("val/c.npy", np.float32)):
        census.add(image_id, np.zeros((4, 4, 1), kind), train=True)
    expected = r"val/c.npy holds float32 values, but train/a.tif uint16; with data.channels 1 all images need"
    with pytest.raises(InputError, match=expected):
        census.finish()
