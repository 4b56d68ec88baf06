import json

import numpy as np
import pytest
from PIL import Image

from pipeline.data.classes import parse_classes
from pipeline.data.frames import Frame, mask_to_frame
from pipeline.errors import InputError
from pipeline.evaluation.pair_reading import PairReader, resize_nearest
from pipeline.evaluation.pairs import Pair

NAMES = [{"id": 0, "name": "sky"}, {"id": 1, "name": "sea"}]
PLAIN = parse_classes(json.dumps({"classes": NAMES}), "classes.json")
TABLE = parse_classes(json.dumps({"classes": NAMES, "mask_ids": {"7": 1, "9": 0, "8": None}}), "classes.json")
COLOURS = parse_classes(json.dumps({"classes": NAMES, "mask_ids": {"#ff0000": 0, "#00ff00": 1}}), "classes.json")
FRAME = Frame(64, "center", 32)


def pair_of(folder, labels, mask) -> Pair:
    for name, array in (("p.png", labels), ("m.png", mask)):
        Image.fromarray(np.asarray(array)).save(folder / name)
    return Pair(folder / "p.png", folder / "m.png")


def draw(shape, ids=(0, 1)):
    return np.random.default_rng(0).choice(np.array(ids, np.uint8), shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_become_classes_by_the_table(tmp_path, dtype):
    stored = np.array([[7, 8, 9]], dtype)
    mask, labels = PairReader(TABLE).read(pair_of(tmp_path, np.array([[4, 5, 6]], np.uint8), stored))
    assert mask.tolist() == [[1, 255, 0]]
    assert mask.dtype == np.uint8
    assert labels.tolist() == [[4, 5, 6]]


def test_colours_become_classes_by_the_table(tmp_path):
    stored = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    assert PairReader(COLOURS).read_mask(pair_of(tmp_path, np.zeros((1, 2), np.uint8), stored)).tolist() == [[0, 1]]
    stored[0, 0, 2] = 3
    with pytest.raises(InputError, match=r"m\.png: values #ff0003 are not in the table mask_ids of classes\.json"):
        PairReader(COLOURS).read_mask(pair_of(tmp_path, np.zeros((1, 2), np.uint8), stored))


@pytest.mark.parametrize(("classes", "named"), [(PLAIN, "ids 5 are not among the 2 classes"), (TABLE, "values 5 are")])
def test_a_value_outside_the_table_is_an_error_of_the_mask(tmp_path, classes, named):
    pair = pair_of(tmp_path, np.zeros((1, 1), np.uint8), np.full((1, 1), 5, np.uint8))
    with pytest.raises(InputError, match=rf"m\.png: {named}"):
        PairReader(classes).read(pair)


def test_a_tile_of_a_mask_is_read_from_one_decoding(tmp_path):
    stored = draw((8, 8))
    pair = pair_of(tmp_path, draw((4, 4)), stored)
    reader = PairReader(PLAIN)
    tiles = [Pair(pair.prediction, pair.mask, (slice(0, 4), slice(x, x + 4))) for x in (0, 4)]
    first, _ = reader.read(tiles[0])
    pair.mask.unlink()
    second, _ = reader.read(tiles[1])
    np.testing.assert_array_equal(np.hstack([first, second]), stored[:4])


@pytest.mark.parametrize("size", [(70, 96), (32, 32)])
def test_predictions_of_mask_or_frame_are_scored_in_the_frame(tmp_path, size):
    stored, predicted = draw((70, 96)), draw(size, (0, 1, 2))
    reader = PairReader(PLAIN, FRAME)

    mask, labels = reader.read(pair_of(tmp_path, predicted, stored))

    np.testing.assert_array_equal(mask, mask_to_frame(stored, FRAME))
    np.testing.assert_array_equal(labels, predicted if size == (32, 32) else mask_to_frame(predicted, FRAME))
    assert mask.shape == labels.shape == (32, 32)
    assert reader.resized == 0


def test_other_sizes_are_refused_or_resized_to_what_they_show(tmp_path):
    stored, square, whole = draw((70, 96)), draw((64, 64)), draw((35, 48))
    pair = pair_of(tmp_path, square, stored)
    message = r"p\.png: is 64 x 64, but its mask .* is 96 x 70 and the protocol scores 32 x 32; .*--resize"
    with pytest.raises(InputError, match=message):
        PairReader(PLAIN, FRAME).read(pair)

    reader = PairReader(PLAIN, FRAME, resize=True)
    _, labels = reader.read(pair)
    np.testing.assert_array_equal(labels, resize_nearest(square, (32, 32)))
    _, labels = reader.read(pair_of(tmp_path, whole, stored))
    np.testing.assert_array_equal(labels, mask_to_frame(resize_nearest(whole, (70, 96)), FRAME))
    assert reader.resized == 2


@pytest.mark.parametrize("size", [(2, 3), (8, 5), (4, 6), (1, 1)])
def test_resizing_is_pillows_nearest(size):
    ids = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    expected = np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_nearest(ids, size), expected)
