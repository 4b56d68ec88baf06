import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.export.sources import list_images, name_results


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names(*arguments: str, out: str = "out") -> dict[str, str]:
    return {file.shown: file.name for file in list_images(arguments, Path(out))}


def test_folders_are_searched_to_the_bottom(tmp_path):
    touch(tmp_path, "a/2.JPG", "a/deep/1.png", "a/notes.txt", "a/.hidden.png", "a/.cache/3.png")
    assert names("a") == {"2.JPG": "2", "deep/1.png": "deep/1"}
    assert names("a/") == names(str(tmp_path / "a")) == names("a/deep/..")


def test_stems_of_several_folders_stay_apart(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "b/1.jpg", "b/c/1.png")
    assert names("a", "b") == {"a/1.png": "a/1", "b/1.jpg": "b/1", "b/1.png": "b/1.png", "b/c/1.png": "b/c/1"}
    assert names("a/1.png", "b/1.png") == {"a/1.png": "a/1", "b/1.png": "b/1"}
    assert names("b/1.png", "b", "./b/1.png") == {"1.png": "1", "1.jpg": "1.jpg", "c/1.png": "c/1"}


def test_patterns_are_expanded_where_the_shell_did_not(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png", "a/x.txt", "a/[1].png")
    assert list(names("*/1.png")) == ["a/1.png", "b/1.png"]
    assert list(names(str(tmp_path / "**/2.png"))) == ["2.png"]
    assert list(names("a/[1].png")) == ["[1].png"]  # a file of this name comes before the pattern
    with pytest.raises(InputError, match=r"\*\.gif: no file matches"):
        names("*.gif")


def test_a_file_that_was_named_is_tried_whatever_its_ending(tmp_path):
    touch(tmp_path, "scan")
    assert names("scan") == {"scan": "scan"}
    with pytest.raises(InputError, match=r"gone\.png: does not exist"):
        names("gone.png")


def test_results_are_no_images_to_segment(tmp_path):
    touch(tmp_path, "a/1.png", "a/out/labels/1.png", "a/outside/1.png")
    assert list(names("a", out="a/out")) == ["1.png", "outside/1.png"]
    with pytest.raises(InputError, match="no images here"):
        names("a/out", out="a/out")


def test_links_keep_the_names_under_which_they_were_given(tmp_path):
    touch(tmp_path, "far/away/1.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/2.png").symlink_to(tmp_path / "far/away/1.png")
    assert names("a") == {"2.png": "2"}


def test_names_that_are_no_text_can_still_be_written(tmp_path):
    odd = os.fsdecode(b"\xff.png")
    touch(tmp_path, f"a/{odd}", "a/?.png")
    assert names("a") == {"?.png": "?.png"} or sorted(names("a").values()) == ["?", "?.png"]
    assert sorted(file.name for file in list_images(["a"], tmp_path / "out")) == ["?", "?.png"]


PARTS = st.sampled_from(["a", "A", "b", "a.png", "a.jpg", "b.png", "b.png-2"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, unique=True, max_size=8))
def test_results_never_meet(shown):
    found = [f"{name}.png".casefold() for name in name_results(shown)]
    assert len(set(found)) == len(found)
    folders = {str(folder).casefold() for name in name_results(shown) for folder in Path(name).parents}
    assert not folders & set(found)
    assert not any(part == ".." for name in found for part in Path(name).parts)
