import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.official import OFFICIAL, OfficialMask
from pipeline.evaluation.pairs import Pair, pair_folders, pair_official, read_colours, read_labels

IDS = np.array([[0, 1, 2], [3, 0, 1]], dtype=np.uint8)


def save(path: Path, labels=IDS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (labels if isinstance(labels, Image.Image) else Image.fromarray(labels)).save(path)
    return path


def test_files_are_paired_by_their_path_below_the_folders(tmp_path):
    for name in ("b/x.png", "a.PNG", "surplus.png", ".hidden/y.png"):
        save(tmp_path / "p" / name)
    for name in ("a.png", "b/x.png", ".z.png"):
        save(tmp_path / "t" / name)
    (tmp_path / "t/notes.txt").write_text("no mask")

    pairs = pair_folders(tmp_path / "p", tmp_path / "t")

    assert pairs == [
        Pair(tmp_path / "p" / first, tmp_path / "t" / second)
        for first, second in (("a.PNG", "a.png"), ("b/x.png",) * 2)
    ]


def test_a_prediction_without_a_mask_is_told(tmp_path, monkeypatch):
    for name in ("p/a.png", "p/b.png", "t/a.png"):
        save(tmp_path / name)
    told = []
    monkeypatch.setattr("pipeline.evaluation.pairs.log.warning", lambda text, *values: told.append(text % values))

    assert len(pair_folders(tmp_path / "p", tmp_path / "t")) == 1
    assert told == [f"1 predictions have no mask and are not scored, such as {tmp_path / 'p/b.png'}"]


def test_a_mask_without_a_prediction_is_an_error(tmp_path):
    for name in ("p/a.png", "t/a.png", "t/b/c.png"):
        save(tmp_path / name)
    with pytest.raises(InputError, match=r"t/b/c\.png: has no prediction .*p/b/c\.png \(1 of 2 masks have none\)"):
        pair_folders(tmp_path / "p", tmp_path / "t")


def test_no_pairs_at_all_is_an_error_that_shows_both_names(tmp_path):
    save(tmp_path / "p/a_pred.png")
    save(tmp_path / "t/a_mask.png")
    with pytest.raises(InputError, match=r"no pairs: .*holds 'a_pred', .*holds 'a_mask'"):
        pair_folders(tmp_path / "p", tmp_path / "t")


def test_a_folder_that_is_none_or_empty_is_an_error(tmp_path):
    save(tmp_path / "t/a.png")
    (tmp_path / "empty").mkdir()
    for name, message in (("gone", "does not exist"), ("t/a.png", "is not a folder"), ("empty", "holds no PNG files")):
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: {message}")):
            pair_folders(tmp_path / name, tmp_path / "t")


def test_two_files_of_one_name_are_an_error(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.PNG")
    with pytest.raises(InputError, match=r"differs from .* only in its ending"):
        pair_folders(tmp_path, tmp_path)


@pytest.mark.parametrize("labels", [IDS, IDS.astype(np.uint16) + 40_000, np.full((2, 2), 255, np.uint8)])
def test_ids_come_back_as_they_are_stored(tmp_path, labels):
    found = read_labels(save(tmp_path / "a.png", labels))
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels)


def test_a_palette_is_read_as_indices_and_one_bit_as_0_and_1(tmp_path):
    image = Image.fromarray(IDS, "L").convert("P")
    image.putdata(IDS.ravel().tolist())
    image.putpalette([200, 10, 10] * 256)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "a.png", image)), IDS)
    assert read_labels(save(tmp_path / "b.png", np.array([[True, False]]))).tolist() == [[1, 0]]


@pytest.mark.parametrize(("mode", "named"), [("RGB", "RGB"), ("RGBA", "RGB with alpha"), ("LA", "grey with alpha")])
def test_colours_are_no_ids(tmp_path, mode, named):
    path = save(tmp_path / "a.png", Image.new(mode, (3, 2)))
    with pytest.raises(InputError, match=rf"a\.png: is {named}; save ids, not colours"):
        read_labels(path)


def test_what_is_no_png_or_damaged_is_named(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    whole = save(tmp_path / "whole.png", np.arange(10_000, dtype=np.uint16).reshape(100, 100)).read_bytes()
    for name, data, message in (
        ("jpeg", buffer.getvalue(), "not a PNG file"),
        ("empty", b"", "not a PNG file"),
        ("cut", whole[:80], "cannot be decoded"),
    ):
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}\.png: {message}"):
            read_labels(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "gone.png")


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_of_2_and_4_bits_is_refused_as_its_ids_would_be_stretched(tmp_path, depth):
    path = save(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[24] = depth
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"is grey of {depth} bits"):
        read_labels(path)


@pytest.mark.parametrize("name", ["city/a", "val/city/a", "a", "city/a_leftImg8bit", "a_gtFine_labelIds"])
def test_a_prediction_of_a_download_is_found_by_any_usual_name(tmp_path, name):
    place = save(tmp_path / f"{name}.png")
    masks = [OfficialMask("city/a", "val", Path("a_gtFine_labelIds.png"))]
    assert pair_official(tmp_path, masks, OFFICIAL["cityscapes-27"]) == [Pair(place, masks[0].path)]


def test_a_prediction_of_a_tile_is_found_by_image_and_place(tmp_path):
    window = (slice(0, 400), slice(400, 800))
    masks = [OfficialMask("top_potsdam_2_13/r00c01", "val", Path("m.tif"), window)]
    for name in ("top_potsdam_2_13_RGB/r00c01", "top_potsdam_2_13/r00c02"):
        save(tmp_path / f"{name}.png")
    found = pair_official(tmp_path, masks, OFFICIAL["potsdam-3"])
    assert found == [Pair(tmp_path / "top_potsdam_2_13_RGB/r00c01.png", Path("m.tif"), window)]


def test_predictions_of_a_download_that_lack_or_are_two_are_errors(tmp_path):
    official = OFFICIAL["cityscapes-27"]
    masks = [OfficialMask(name, "val", Path(f"{name}.png")) for name in ("city/a", "city/b")]
    save(tmp_path / "city/a.png")
    with pytest.raises(
        InputError, match=r"city/b\.png: has no prediction .*city/b\.png \(1 of 2 .*holds 'city/a'.*--ids"
    ):
        pair_official(tmp_path, masks, official)
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is a prediction of city/a\.png as .* is; remove one"):
        pair_official(tmp_path, masks[:1], official)
    (tmp_path / "a.png").rename(tmp_path / "city/a_leftImg8bit.png")
    with pytest.raises(InputError, match=r"differs from .* only in its ending"):
        pair_official(tmp_path, masks[:1], official)


def test_colours_are_read_as_numbers_and_ids_are_no_colours(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[[255, 0, 1], [0, 2, 0]]], np.uint8)).save(path)
    assert read_colours(path).tolist() == [[0xFF0001, 0x000200]]
    with pytest.raises(InputError, match=r"b\.png: is of mode L, but the class table is of colours"):
        read_colours(save(tmp_path / "b.png"))
    path.write_bytes(b"text")
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as a picture"):
        read_colours(path)
