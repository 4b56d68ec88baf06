import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.classes import ClassList, default_classes, load_classes, parse_classes, state_ignored
from pipeline.errors import InputError

SKY = {"id": 0, "name": "sky", "kind": "stuff"}
CAR = {"id": 1, "name": "car", "kind": "thing"}


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "classes.json"

    def write_content(content) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_content


def test_classes_are_read_in_the_order_of_their_ids(write):
    path = write({"name": "street", "note": "by hand", "ignore_index": 9, "classes": [CAR, SKY]})

    assert load_classes(path) == ClassList(("sky", "car"), ("stuff", "thing"), 9, "by hand", "street")


def test_only_ids_and_names_are_needed(write):
    path = write({"classes": [{"id": 0, "name": "ciel étoilé"}]})

    assert load_classes(path) == ClassList(("ciel étoilé",), None, 255)


def test_blanks_around_a_name_do_not_count(write):
    path = write({"classes": [SKY | {"name": " sky"}, CAR | {"name": "racing car "}]})

    assert load_classes(path).names == ("sky", "racing car")


def test_a_byte_order_mark_is_accepted(write):
    assert load_classes(write(b"\xef\xbb\xbf" + json.dumps({"classes": [SKY]}).encode())).names == ("sky",)


def test_255_classes_fit_beside_the_ignored_value(write):
    classes = [{"id": i, "name": f"class {i}"} for i in range(256)]

    assert len(load_classes(write({"classes": classes[:255]})).names) == 255
    with pytest.raises(InputError, match="256 classes leave no mask value to ignore; use at most 255"):
        load_classes(write({"classes": classes}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON at line 1, column 1"),
        (b'{"classes": [\n{"id": 0 "name": "sky"}]}', "not valid JSON at line 2, column 10"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b'{"classes": [], "classes": []}', 'the key "classes" is given twice'),
        (b"[" * 100_000, "nested too deep"),
        ([SKY], 'must be an object with the key "classes"'),
        ({}, '"classes" must be a list of at least one class, not null'),
        ({"classes": []}, '"classes" must be a list of at least one class, not \\[\\]'),
        ({"classes": {"0": "sky"}}, '"classes" must be a list'),
        ({"classes": ["sky"]}, 'classes\\[0\\] must be an object .* not "sky"'),
        ({"classes": [SKY], "ignore": 9}, 'unknown key "ignore"; the keys are classes, name, ignore_index'),
        ({"classes": [SKY | {"kinds": "stuff"}]}, 'classes\\[0\\]: unknown key "kinds"'),
        ({"classes": [{"name": "sky"}]}, "classes\\[0\\].id must be a whole number, not null"),
        ({"classes": [{"id": "0", "name": "sky"}]}, 'classes\\[0\\].id must be a whole number, not "0"'),
        ({"classes": [{"id": True, "name": "sky"}]}, "id must be a whole number, not true"),
        ({"classes": [{"id": 0.0, "name": "sky"}]}, "id must be a whole number, not 0.0"),
        ({"classes": [{"id": 0}]}, "classes\\[0\\].name must be a text that is not empty, not null"),
        ({"classes": [{"id": 0, "name": " "}]}, 'name must be a text that is not empty, not " "'),
        ({"classes": [SKY, CAR | {"id": 0}]}, "the id 0 is used twice"),
        ({"classes": [SKY, CAR | {"id": 2}]}, "the ids 0..1, but 1 is missing and 2 is given"),
        ({"classes": [SKY | {"id": -1}]}, "the ids 0..0, but 0 is missing and -1 is given"),
        ({"classes": [SKY, CAR | {"name": "sky"}]}, 'the class name "sky" is used twice'),
        ({"classes": [SKY, CAR | {"name": "sky "}]}, 'the class name "sky" is used twice'),
        ({"classes": [SKY, {"id": 1, "name": "car"}]}, 'kind of the class "car" is missing'),
        ({"classes": [SKY | {"kind": "things"}]}, 'kind of the class "sky" is "things"'),
        ({"classes": [SKY | {"kind": ["stuff"]}]}, 'kind of the class "sky" is \\["stuff"\\]'),
        ({"classes": [SKY | {"kind": None}]}, 'kind of the class "sky" is null'),
        ({"classes": [SKY, CAR], "ignore_index": 1}, "ignore_index is 1; .* whole number in 2..255"),
        ({"classes": [SKY, CAR], "ignore_index": 256}, "ignore_index is 256"),
        ({"classes": [SKY, CAR], "ignore_index": -1}, "ignore_index is -1"),
        ({"classes": [SKY, CAR], "ignore_index": "255"}, 'ignore_index is "255"'),
        ({"classes": [SKY, CAR], "ignore_index": None}, "ignore_index is null"),
        ({"classes": [SKY], "note": 3}, '"note" must be a text, not 3'),
        ({"classes": [SKY], "name": ["a"]}, '"name" must be a text, not \\["a"\\]'),
    ],
)
def test_faults_name_the_file_and_the_value(write, content, message):
    path = write(content)

    with pytest.raises(InputError, match=message) as caught:
        load_classes(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as caught:
            load_classes(path)
        assert str(path) in str(caught.value)


def test_a_long_value_is_cut_short(write):
    with pytest.raises(InputError, match=r"\.\.\.$") as caught:
        load_classes(write({"classes": "x" * 5000}))
    assert len(str(caught.value)) < 500


def test_default_classes_are_the_values_that_occur():
    assert default_classes([255, 1, 0]) == ClassList(("class 0", "class 1"), None, 255)


def test_values_between_that_do_not_occur_are_no_classes():
    classes = default_classes([255, 5, 0])
    assert (classes.names, classes.ignore_index) == (("class 0", "class 5"), 255)
    assert classes.mask_ids
    assert classes.mask_ids.translate(np.array([0, 5, 255, 2])).tolist() == [0, 1, 255, -1]


def test_default_classes_need_a_value_that_is_not_ignored():
    with pytest.raises(InputError, match="nothing to evaluate: the masks hold no value but 255"):
        default_classes([255])


@pytest.mark.parametrize("ids", [[0, 1000], [-1, 2]])
def test_default_classes_fit_8_bit_masks(ids):
    with pytest.raises(InputError, match=r"do not fit 0\.\.255; save the masks as 8-bit"):
        default_classes(ids)


@pytest.mark.parametrize(
    ("ids", "ignored", "names", "expected"),
    [
        ([0, 2, 5], 0, ("class 2", "class 5"), {0: 255, 2: 0, 5: 1}),
        ([1, 2, 255], 0, ("class 1", "class 2", "class 255"), {0: 255, 1: 0, 2: 1, 255: 2}),
        ([0, 1, 3], 1, ("class 0", "class 3"), {0: 0, 1: 255, 3: 1}),
    ],
)
def test_an_ignored_value_below_the_classes_leaves_no_gap(ids, ignored, names, expected):
    classes = default_classes(ids, ignored)
    assert (classes.names, classes.ignore_index) == (names, 255)
    assert classes.mask_ids
    for value, target in expected.items():
        assert classes.mask_ids.translate(np.array([value])).tolist() == [target]
    assert classes.mask_ids.translate(np.array([254])).tolist() == [-1]


def test_an_ignored_value_above_the_classes_needs_no_table():
    assert default_classes([0, 1, 9], 9) == ClassList(("class 0", "class 1"), None, 9)


TWO = '{"classes": [{"id": 0, "name": "sky"}, {"id": 1, "name": "sea"}]%s}'


def test_a_file_that_names_its_ignored_value_keeps_it():
    text = TWO % ', "ignore_index": 9'
    assert state_ignored(text, 7, "classes.json") == text
    assert state_ignored(TWO % "", 255, "classes.json") == TWO % ""


def test_the_ignored_value_of_the_parameters_goes_into_the_table():
    classes = parse_classes(state_ignored(TWO % "", 7, "classes.json"), "classes.json")
    assert classes.mask_ids
    assert classes.mask_ids.translate(np.array([0, 1, 7, 8])).tolist() == [0, 1, 255, -1]
    classes = parse_classes(state_ignored(TWO % ', "mask_ids": {"1": 0, "2": 1}', 0, "classes.json"), "classes.json")
    assert classes.mask_ids
    assert classes.mask_ids.translate(np.array([0, 1, 2])).tolist() == [255, 0, 1]


def test_the_ignored_value_cannot_be_a_class():
    with pytest.raises(InputError, match=r'data.ignore_index: 1 is the mask value of the class "sea" in classes.json'):
        state_ignored(TWO % "", 1, "classes.json")
