import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ParamsError
from pipeline.yaml_reader import read_yaml


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "params.yaml"


def read(file: Path, text: str | bytes):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(file)


def refuse(file: Path, text: str | bytes) -> str:
    with pytest.raises(ParamsError) as caught:
        read(file, text)
    assert str(caught.value).startswith(str(file))
    return str(caught.value)[len(str(file)) :]


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("1e-05", 1e-5),
        ("1E-5", 1e-5),
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("+1e3", 1000.0),
        ("1e3", 1000.0),
        ("1.5E+2", 150.0),
        ("-2.50", -2.5),
        ("-.inf", -math.inf),
    ],
)
def test_every_spelling_of_a_float_is_a_float(file, spelling, value):
    found = read(file, f"rate: {spelling}")["rate"]
    assert isinstance(found, float)
    assert found == value


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("27", 27),
        ("-3", -3),
        ('"27"', "27"),
        ("'1e-5'", "1e-5"),
        ("true", True),
        ("1e-5x", "1e-5x"),
        ("1_0.5", "1_0.5"),
        ("~", None),
        ("[1, 2]", [1, 2]),
    ],
)
def test_everything_else_stays_what_it_is(file, spelling, value):
    found = read(file, f"key: {spelling}")["key"]
    assert type(found) is type(value)
    assert found == value


@given(number=st.floats(allow_nan=False))
def test_what_python_and_yaml_write_is_read_back_exactly(file, number):
    assert read(file, f"a: {number!r}".replace("inf", ".inf")) == {"a": number}
    assert read(file, yaml.safe_dump({"a": number})) == {"a": number}


def test_line_ends_and_byte_order_marks_are_accepted(file):
    expected = {"a": {"b": 1, "c": "é"}}
    plain = "a:\n  b: 1\n  c: é\n"
    assert read(file, plain) == expected
    assert read(file, plain.replace("\n", "\r\n")) == expected
    assert read(file, b"\xef\xbb\xbf" + plain.encode()) == expected
    assert read(file, b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()) == expected


def test_a_duplicate_key_is_named_with_both_lines(file):
    message = refuse(file, "train:\n  k: 1\n  epochs: 2\n  k: 3\n")
    assert message == ", line 4: key 'k' stands twice (first in line 2); keep one of them"
    assert read(file, "one: {k: 1}\ntwo: {k: 1}\n") == {"one": {"k": 1}, "two": {"k": 1}}


def test_tabs_are_explained(file):
    message = refuse(file, "train:\n\tk: 1\n")
    assert message.startswith(", line 2: not valid YAML")
    assert message.endswith("indent with spaces, not tabs")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n", "---\n", "null\n"])
def test_empty_files_are_refused(file, text):
    assert "the file is empty" in refuse(file, text)


def test_bytes_that_are_not_utf8_are_located(file):
    assert refuse(file, b"a: 1\nb: \xff\n").startswith(": byte 8 is not UTF-8")
    assert "is not UTF-8" in refuse(file, "a: 1".encode("utf-16"))


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"gone\.yaml: no such file; run from the project's root"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(ParamsError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: *nowhere",
        "a: &a {x: *a}",
        "a: !!python/object:os.system x",
        "a: \x00",
        "--- 1\n--- 2",
        "[1]: 2",
        "{? !!set {a}: b}",
        'a: !!int ""',
        "a: !!bool x",
        "a: !!timestamp x",
        "a: 2001-99-99",
        "[" * 5000,
        "a: " + "9" * 5000,
    ],
)
def test_whatever_is_wrong_it_is_a_params_error_of_one_line(file, text):
    message = refuse(file, text)
    assert "\n" not in message
    assert "line" in message or "cannot be read" in message or "not valid YAML" in message


@given(text=st.text(max_size=60) | st.text(alphabet="ab:-?!&*[]{}\"' \n\t#|>%@<=0.1e", max_size=60))
def test_any_text_gives_a_value_or_a_params_error(file, text):
    try:
        read(file, text.encode("utf-8", "surrogatepass"))
    except ParamsError as error:
        assert str(file) in str(error)
