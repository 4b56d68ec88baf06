import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.frames import Frame, mask_to_frame
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.truth import GroundTruth, open_truth

CLASSES = json.dumps({"classes": [{"id": 0, "name": "sky"}, {"id": 1, "name": "sea"}, {"id": 2, "name": "sun"}]})


def table_of(names: list[str]) -> ImageTable:
    rows = [ImageRow(name, name.split("/")[0], name, 48, 32, name, "ok") for name in names]
    return ImageTable(rows, Frame(32, "center"), 10**6, 1)


def mask_row(folder: Path, name: str, mask: np.ndarray | Image.Image) -> TruthRow:
    path = folder / f"{name.replace('/', '-')}.png"
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask.astype(np.uint8))).save(path)
    return TruthRow(name, name.split("/")[0], str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def single(
    folder: Path, mask: np.ndarray | Image.Image, text: str | None = CLASSES, unknown: str = "error"
) -> GroundTruth:
    truth = TruthTable([mask_row(folder, "val/a", mask)], text)
    opened = open_truth(table_of(["val/a"]), truth, "auto", unknown)
    assert opened is not None
    return opened


MASK = np.random.default_rng(0).integers(0, 3, (32, 48))


def test_a_mask_comes_in_the_frame_of_its_image(tmp_path):
    truth = single(tmp_path, MASK)
    read = truth.read("val/a")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, mask_to_frame(MASK, Frame(32, "center")))
    np.testing.assert_array_equal(read, MASK[:, 8:40])
    assert truth.has("val/a")
    assert not truth.has("val/b")
    assert truth.classes.names == ("sky", "sea", "sun")


def test_a_palette_is_read_as_indices(tmp_path):
    image = Image.fromarray(MASK.astype(np.uint8), "P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    np.testing.assert_array_equal(single(tmp_path, image).read("val/a"), MASK[:, 8:40])


def test_unknown_ids_are_an_error_or_ignored(tmp_path):
    mask = MASK.copy()
    mask[0, 10], mask[0, 11], mask[0, 12] = 7, 9, 255
    with pytest.raises(
        InputError, match=r"val-a\.png: ids 7, 9 are not in classes\.json; .*evaluate\.unknown_ids to ignore"
    ):
        single(tmp_path, mask).read("val/a")
    read = single(tmp_path, mask, unknown="ignore").read("val/a")
    assert (read == 255).sum() == 3
    np.testing.assert_array_equal(read[1:], MASK[1:, 8:40])


def test_without_a_class_list_the_values_are_the_classes(tmp_path):
    mask = np.where(MASK == 2, 255, MASK)
    truth = single(tmp_path, mask, text=None)
    assert truth.classes.names == ("class 0", "class 1")
    np.testing.assert_array_equal(truth.read("val/a"), mask[:, 8:40])


def test_without_a_class_list_values_with_a_gap_make_no_class_between(tmp_path):
    truth = single(tmp_path, np.array([0, 5, 255])[MASK], text=None)
    assert truth.classes.names == ("class 0", "class 5")
    np.testing.assert_array_equal(truth.read("val/a"), np.array([0, 1, 255])[MASK[:, 8:40]])


def test_masks_of_nothing_but_ignored_pixels_are_nothing_to_evaluate(tmp_path):
    with pytest.raises(InputError, match="nothing to evaluate"):
        single(tmp_path, np.full((32, 48), 255), text=None)


def test_a_mask_that_changed_went_or_is_damaged_is_named(tmp_path):
    truth = single(tmp_path, MASK)
    path = tmp_path / "val-a.png"
    Image.fromarray((MASK[::-1]).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match=r"val-a\.png: has changed since prepare; run `dvc repro`"):
        truth.read("val/a")
    path.unlink()
    with pytest.raises(InputError, match=r"val-a\.png: cannot be read"):
        truth.read("val/a")
    path.write_bytes(b"text")
    row = TruthRow("val/a", "val", str(path), hashlib.sha256(b"text").hexdigest())
    with pytest.raises(InputError, match=r"val-a\.png: cannot be decoded .*8-bit PNG"):
        GroundTruth(table_of(["val/a"]), TruthTable([row], CLASSES), "val", "error").read("val/a")


def test_a_mask_in_colour_is_refused(tmp_path):
    with pytest.raises(InputError, match="has 3 dimensions; save class ids as a one-channel PNG"):
        single(tmp_path, np.zeros((32, 48, 3))).read("val/a")


@pytest.mark.parametrize(
    ("splits", "asked", "chosen"),
    [
        (["train", "val"], "auto", "val"),
        (["train"], "auto", "train"),
        (["test"], "auto", "test"),
        (["train", "val"], "train", "train"),
    ],
)
def test_the_scored_split_is_val_if_it_has_masks(tmp_path, splits, asked, chosen):
    names = [f"{split}/a" for split in splits]
    truth = TruthTable([mask_row(tmp_path, name, MASK) for name in names], CLASSES)
    opened = open_truth(table_of([*names, "val/b"]), truth, asked, "error")
    assert opened is not None
    assert opened.split == chosen


def test_a_split_without_masks_cannot_be_asked_for(tmp_path):
    truth = TruthTable([mask_row(tmp_path, "train/a", MASK)], CLASSES)
    expected = r"evaluate\.split: 'val' has no masks; splits with masks are train \(splits with images: train, val\)"
    with pytest.raises(ParamsError, match=expected):
        open_truth(table_of(["train/a", "val/b"]), truth, "val", "error")


@pytest.mark.parametrize("split", ["auto", "val"])
def test_without_masks_there_is_no_truth(split):
    assert open_truth(table_of(["val/a"]), TruthTable([], None), split, "error") is None


def test_several_splits_are_scored_as_one(tmp_path):
    names = ["train/a", "val/a", "test/a"]
    truth = TruthTable([mask_row(tmp_path, name, MASK) for name in names], CLASSES)
    opened = open_truth(table_of(names), truth, "train+val", "error")
    assert opened is not None
    assert (opened.split, opened.splits) == ("train+val", ("train", "val"))
    with pytest.raises(ParamsError, match="'dev' has no masks"):
        open_truth(table_of(names), truth, "val+dev", "error")
    with pytest.raises(ParamsError, match=r"'val\+val' names a split twice"):
        open_truth(table_of(names), truth, "val+val", "error")


def test_the_ignored_value_of_a_folder_without_classes_is_a_setting(tmp_path):
    truth = TruthTable([mask_row(tmp_path, "val/a", MASK)], None, 0)
    opened = open_truth(table_of(["val/a"]), truth, "auto", "error")
    assert opened is not None
    assert opened.classes.names == ("class 1", "class 2")
    np.testing.assert_array_equal(opened.read("val/a"), np.array([255, 0, 1])[MASK[:, 8:40]])


def test_tiles_are_scored_on_what_is_theirs(tmp_path):
    row = mask_row(tmp_path, "val/a", MASK)
    tiles = [
        replace(row, image_id=f"val/a/{x}", mask_path=f"{row.mask_path}#xywh={x},0,32,32&own={own},0,24,32")
        for x, own in ((0, 0), (16, 24))
    ]
    truth = GroundTruth(table_of([tile.image_id for tile in tiles]), TruthTable(tiles, None), "val", "error")
    assert truth.tiled
    assert len({truth.image_of(tile.image_id) for tile in tiles}) == 1
    left, right = (truth.read(tile.image_id) for tile in tiles)
    np.testing.assert_array_equal(left[:, :24], MASK[:, :24])
    np.testing.assert_array_equal(right[:, 8:], MASK[:, 24:])
    assert (left[:, 24:] == 255).all()
    assert (right[:, :8] == 255).all()
