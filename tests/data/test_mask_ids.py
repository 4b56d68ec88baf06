import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.classes import parse_classes
from pipeline.data.mask_ids import UNKNOWN, MaskIds, pack_colours
from pipeline.errors import InputError

SKY, SEA = {"id": 0, "name": "sky"}, {"id": 1, "name": "sea"}


def parse(table) -> MaskIds | None:
    return parse_classes(json.dumps({"classes": [SKY, SEA], "mask_ids": table}), "classes.json").mask_ids


def test_values_and_colours_are_read_in_order():
    assert parse({"9": 1, "2": None, "7": 0}) == MaskIds((2, 7, 9), (255, 0, 1), False)
    assert parse({"#0000FF": 1, "#000001": None}) == MaskIds((1, 255), (255, 1), True)
    assert parse(None) is None


@given(
    st.dictionaries(st.integers(0, 300), st.integers(0, 254), min_size=1),
    st.lists(st.integers(0, 310), min_size=1, max_size=40),
)
def test_looking_up_is_what_a_dictionary_does(table, values):
    ordered = sorted(table)
    found = MaskIds(tuple(ordered), tuple(table[value] for value in ordered), False).translate(np.array([values]))
    assert found.dtype == np.int32
    assert found.tolist() == [[table.get(value, UNKNOWN) for value in values]]


def test_colours_are_packed():
    assert pack_colours(np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)).tolist() == [[0x010203, 0xFFFFFF]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], r'"mask_ids" must be an object from mask values to class ids, not \[\]'),
        ({}, r'"mask_ids" must be an object'),
        ({"x": 0}, r'has the mask value "x"; give whole numbers'),
        ({"-1": 0}, r'has the mask value "-1"'),
        ({"07": 0}, r'has the mask value "07"'),
        ({"#ff0000": 0, "3": 1}, r'has the mask value "#ff0000"'),
        ({"3": 2}, r'gives "3" the class 2; give an id in 0\.\.1, or null'),
        ({"3": True}, r'gives "3" the class true'),
        ({"3": "sky"}, r'gives "3" the class "sky"'),
        ({"#ffffff": 0, "#FFFFFF": 1}, r'gives the colour "#FFFFFF" twice'),
    ],
)
def test_faults_are_named(table, message):
    with pytest.raises(InputError, match=rf"classes\.json: .*{message}"):
        parse(table)
