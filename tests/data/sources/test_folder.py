import os
import random
from pathlib import Path

import pytest

from pipeline.data.sources.folder import list_folder
from pipeline.errors import InputError


def touch(root: Path, *names: str) -> Path:
    """Make empty files: listing opens none of them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def ids(root: Path) -> list[str]:
    return [image.image_id for image in list_folder(root)]


def test_splits_masks_and_unlabelled_images(tmp_path):
    touch(tmp_path, "images/train/b.jpg", "images/train/deep/a.v2.JPG", "images/val/a.tif", "images/c.webp")
    touch(tmp_path, "images_unlabelled/x/a.png", "masks/train/deep/a.v2.png", "masks/val/a.PNG", "classes.json")
    touch(tmp_path, "masks/c.png")
    found = {image.image_id: (image.split, image.mask_path) for image in list_folder(tmp_path)}
    masks = tmp_path / "masks"
    assert found == {
        "c.webp": ("train", masks / "c.png"),
        "train/b.jpg": ("train", None),
        "train/deep/a.v2.JPG": ("train", masks / "train/deep/a.v2.png"),
        "unlabelled/x/a.png": ("train", None),
        "val/a.tif": ("val", masks / "val/a.PNG"),
    }
    assert list(found) == sorted(found)


def test_a_flat_folder_is_all_train(tmp_path):
    touch(tmp_path, "b.png", "sub/a.gif", "sub/train/a.gif", "notes.txt")
    assert [(i.image_id, i.split, i.mask_path) for i in list_folder(tmp_path)] == [
        ("b.png", "train", None),
        ("sub/a.gif", "train", None),
        ("sub/train/a.gif", "train", None),
    ]


def test_only_unlabelled_images_will_do(tmp_path):
    assert ids(touch(tmp_path, "images_unlabelled/a.bmp")) == ["unlabelled/a.bmp"]


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    touch(tmp_path, *(f"images/{split}/{n}.jpg" for split in ("train", "val") for n in range(20)))
    touch(tmp_path, *(f"masks/train/{n}.png" for n in range(20)))
    expected = list_folder(tmp_path)
    listing = Path.iterdir

    def shuffled(folder: Path):
        entries = list(listing(folder))
        random.Random(len(str(folder))).shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert list_folder(tmp_path) == expected
    assert len(expected) == 40


def test_equal_names_in_different_folders_are_different_images(tmp_path):
    touch(tmp_path, "images/train/x/a.jpg", "images/train/y/a.jpg", "images/val/a.jpg")
    assert ids(tmp_path) == ["train/x/a.jpg", "train/y/a.jpg", "val/a.jpg"]


def test_unicode_and_spaces_are_fine(tmp_path):
    names = ["Foto 1\u202fPM.jpg", "été.jpg", "日本.png"]
    assert ids(touch(tmp_path, *names)) == sorted(names)


def test_hidden_files_are_skipped(tmp_path):
    assert ids(touch(tmp_path, "a.jpg", "._a.jpg", ".thumbs/b.jpg")) == ["a.jpg"]


@pytest.mark.parametrize("pair", [("A.jpg", "a.jpg"), ("Sub/a.jpg", "sub/a.jpg"), ("caf\u00e9.jpg", "cafe\u0301.jpg")])
def test_names_that_differ_only_by_case_or_form_are_refused(tmp_path, pair):
    touch(tmp_path, *pair)
    if len(list(tmp_path.rglob("*.jpg"))) < 2:
        pytest.skip("this file system takes both for one")
    with pytest.raises(InputError, match="rename one of them") as caught:
        list_folder(tmp_path)
    assert all(str(tmp_path / name) in str(caught.value) for name in pair)


def test_a_split_called_unlabelled_cannot_hide_an_image(tmp_path):
    touch(tmp_path, "images/unlabelled/a.jpg", "images_unlabelled/a.jpg")
    with pytest.raises(InputError, match="rename one of them"):
        list_folder(tmp_path)


def test_names_with_control_characters_or_broken_bytes_are_refused(tmp_path):
    touch(tmp_path / "one", "a\nb.jpg")
    with pytest.raises(InputError, match=r"a\\nb.jpg.*control character"):
        list_folder(tmp_path / "one")
    touch(tmp_path / "two", os.fsdecode(b"a\xff.jpg"))
    with pytest.raises(InputError, match=r"a\\xff.jpg.*UTF-8"):
        list_folder(tmp_path / "two")


def test_links_are_followed_but_not_in_circles(tmp_path, caplog):
    root = touch(tmp_path / "root", "sub/a.jpg")
    touch(tmp_path / "elsewhere", "b.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "c.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (root / "sub/up").symlink_to(root)
    (root / "sub/top").symlink_to("/")
    (tmp_path / "elsewhere/back").symlink_to(root / "linked")
    assert ids(root) == ["c.jpg", "linked/b.jpg", "sub/a.jpg"]
    assert sum("leads back" in record.getMessage() for record in caplog.records) == 3


def test_dangling_and_circular_links_are_listed_to_be_rejected_later(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("nowhere")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    assert ids(tmp_path) == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(touch(tmp_path, "a.jpg") / "b.jpg")
    assert ids(tmp_path) == ["a.jpg"]


def test_folders_without_images_are_explained(tmp_path):
    with pytest.raises(InputError, match=r"data.root: .*gone does not exist"):
        list_folder(tmp_path / "gone")
    with pytest.raises(InputError, match="file is not a folder"):
        list_folder(touch(tmp_path, "file") / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no images.*\.jpg.*no other files"):
        list_folder(tmp_path / "empty")
    with pytest.raises(InputError, match=r"2 other files were seen, such as 'a.heic'"):
        list_folder(touch(tmp_path / "heic", "a.heic", "b/b.heic"))
    with pytest.raises(InputError, match="looked in images/<split>/"):
        list_folder(touch(tmp_path / "layout", "images/train/a.heic", "a.jpg"))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refuse(folder: Path):
        raise PermissionError(13, "Permission denied")

    touch(tmp_path, "images/train/a.jpg")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="images: cannot be listed"):
        list_folder(tmp_path)


def test_masks_are_never_taken_for_images(tmp_path):
    with pytest.raises(InputError, match="Masks: masks without a folder"):
        list_folder(touch(tmp_path, "Masks/a.png", "a.jpg"))


def test_masks_without_image_are_counted(tmp_path, caplog):
    touch(tmp_path, "images/train/a.jpg", "masks/train/a.png", "masks/train/b.png", "masks/val/a.png")
    touch(tmp_path, "masks/train/c.jpg", "images_unlabelled/d.jpg", "masks/unlabelled/d.png")
    assert [image.mask_path is None for image in list_folder(tmp_path)] == [False, True]
    messages = [record.getMessage() for record in caplog.records]
    assert any("3 masks have no image" in message and "b.png" in message for message in messages)
    assert any("1 files are not .png" in message for message in messages)


def test_ambiguous_masks_are_refused(tmp_path):
    touch(tmp_path / "one", "images/train/a.jpg", "images/train/a.png")
    assert len(list_folder(tmp_path / "one")) == 2
    touch(tmp_path / "one", "masks/train/a.png")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png claim this mask"):
        list_folder(tmp_path / "one")
    touch(tmp_path / "two", "images/train/a.jpg", "masks/train/a.png", "masks/train/a.PNG")
    if len(list((tmp_path / "two/masks/train").iterdir())) == 2:
        with pytest.raises(InputError, match="is a mask of the same image"):
            list_folder(tmp_path / "two")
