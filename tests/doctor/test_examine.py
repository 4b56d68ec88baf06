import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from pipeline import cli
from pipeline.doctor import examine
from pipeline.doctor.costs import Rates, estimate_costs
from pipeline.errors import ParamsError
from pipeline.params import Params, load_params
from tests.data.sources.downloads import MAKERS, mask, photo

ROOT = Path(__file__).parents[2]
RATES = Rates("cpu", 0.01, 0.02, 0.05, 0.015, 1e-9, 48_000_000, 128)


@pytest.fixture
def params(monkeypatch) -> Params:
    monkeypatch.chdir(ROOT)  # presets are looked for here
    monkeypatch.setattr(examine, "measure_rates", lambda params, size, decode: RATES)
    params = load_params(ROOT / "params.yaml")
    data = params.data.model_copy(update={"resize": 32, "crop": "none", "min_side": 8, "protocol": "auto"})
    return params.model_copy(update={"data": data})


@pytest.mark.parametrize("source", MAKERS)
def test_every_download_is_recognised_and_sound(tmp_path, params, source):
    text, healthy = examine.examine_data(MAKERS[source](tmp_path), "", params)
    assert healthy, text
    assert text.startswith(f"layout       {source} (recognised): ")
    assert f"as protocol {source}-" in text
    assert "training reads none" in text
    assert "\nsplit train  " in text
    assert "\ntime         about " in text


def test_pairs_and_class_frequencies_are_counted(tmp_path, params):
    text, healthy = examine.examine_data(MAKERS["camvid"](tmp_path), "", params)
    assert healthy
    assert "split train  2 images, 2 with masks" in text
    assert "split test   1 images, 1 with masks" in text
    # 64 columns of 0 to 11 in turn: ids 0 to 3 six times, 4 to 10 five times, 11 five times and ignored
    assert f"{100 * 6 / 59:5.1f} %  road" in text
    assert f"{100 * 5 / 59:5.1f} %  car" in text
    assert f"{100 * 5 / 64:.1f} % of the pixels are ignored" in text


def test_problems_are_told_and_the_rest_still_is(tmp_path, params):
    root = MAKERS["camvid"](tmp_path)
    mask(root / "valannot/0016E5_07959.png", [0, 77])
    Image.new("L", (5, 5)).save(root / "testannot/Seq05VD_f00000.png")
    (root / "train/0001TP_006690.png").write_bytes(b"nothing")
    text, healthy = examine.examine_data(root, "", params)
    assert not healthy
    problems = [line for line in text.splitlines() if line.startswith("problem")]
    assert len(problems) == 3
    assert "0001TP_006690.png: not an image" in text
    assert "the mask is 5 x 5" in text
    assert "ids 77 are not in the table of protocol camvid-11" in text
    assert "split train  2 images" in text


def test_a_folder_of_photos_needs_no_masks(tmp_path, params):
    photo(tmp_path / "a.jpg")
    text, healthy = examine.examine_data(tmp_path, "", params)
    assert healthy
    assert "layout       folder (recognised)" in text
    assert "masks        none were read" in text


def test_a_download_without_its_train_images_is_told_apart_from_a_folder(tmp_path, params):
    root = MAKERS["cityscapes"](tmp_path)
    shutil.rmtree(root / "leftImg8bit/train")
    text, healthy = examine.examine_data(root, "", params)
    assert not healthy
    assert text.startswith("layout       cityscapes (recognised): ")
    assert "leftImg8bit/train: missing; data.root must hold the download as it is" in text


def test_a_download_is_not_examined_as_a_folder(tmp_path, params):
    text, healthy = examine.examine_data(MAKERS["camvid"](tmp_path), "folder", params)
    assert not healthy
    assert f"problem      data.root: {tmp_path} is laid out as camvid" in text


def test_one_missing_mask_leaves_all_else_to_be_seen(tmp_path, params):
    root = MAKERS["camvid"](tmp_path)
    (root / "trainannot/0001TP_006690.png").unlink()
    mask(root / "valannot/other.png", [0])
    text, healthy = examine.examine_data(root, "", params)
    assert not healthy
    assert "problem      " + f"{root}/train/0001TP_006690.png: has no mask, as 1 of the 2 images of split train" in text
    assert "note         split val: 1 masks have no image, such as " in text
    assert "split train  2 images, 1 with masks" in text
    assert "split val    1 images, 1 with masks" in text
    assert "%  road" in text
    assert "\ntime         about " in text


def test_masks_of_another_kind_are_a_problem(tmp_path, params):
    root = MAKERS["cityscapes"](tmp_path)
    for path in root.rglob("*_labelIds.png"):
        path.unlink()
    text, healthy = examine.examine_data(root, "", params)
    assert not healthy
    for split in ("train", "val"):
        assert (
            f"problem      split {split}: no masks were found, so it cannot be scored; {root}/gtFine/{split} holds no "
            "*/*_gtFine_labelIds.png" in text
        )


def test_no_masks_at_all_are_noted(tmp_path, params):
    root = MAKERS["cityscapes"](tmp_path)
    shutil.rmtree(root / "gtFine")
    text, healthy = examine.examine_data(root, "", params)
    assert healthy
    for split in ("train", "val"):
        assert (
            f"note         split {split}: no masks were found, so it cannot be scored; {root}/gtFine/{split} is "
            in text
        )


def test_masks_of_some_splits_alone_are_noted(tmp_path, params):
    root = MAKERS["potsdam"](tmp_path)
    (root / "5_Labels_all/top_potsdam_2_13_label.tif").unlink()
    text, healthy = examine.examine_data(root, "", params)
    assert healthy
    assert "note         split val: no masks were found" in text
    assert "5_Labels_all holds no *_label.tif of its images" in text


@pytest.mark.parametrize("source", ["cityscapes", "folder"])
def test_a_missing_val_is_told_where_something_is_scored(tmp_path, params, source):
    if source == "folder":
        photo(tmp_path / "images/train/a.png")
        mask(tmp_path / "masks/train/a.png", [0, 1])
    else:
        shutil.rmtree(MAKERS[source](tmp_path) / "leftImg8bit/val")
    text, healthy = examine.examine_data(tmp_path, "", params)
    assert healthy
    assert "split val    none; unless evaluate.split names another split, train is scored" in text


@pytest.mark.parametrize(("others", "verdict"), [(0, "problem"), (200, "note")])
def test_masks_in_which_every_pixel_is_ignored_are_told(tmp_path, params, others, verdict):
    # of 208 images five are of split val, so that a random sample of 32 has not all of them
    root = MAKERS["camvid"](tmp_path)
    for number in range(others):
        photo(root / f"train/more{number}.png")
        mask(root / f"trainannot/more{number}.png", [0])
    for number in range(4):
        photo(root / f"val/{number}.png", number)
        mask(root / f"valannot/{number}.png", [11])
    mask(root / "valannot/0016E5_07959.png", [11])
    text, healthy = examine.examine_data(root, "", params)
    assert healthy == (verdict == "note"), text
    assert f"{verdict:12} split val: every pixel of the " in text
    assert "check that they are meant for protocol camvid-11" in text


def test_a_layout_that_was_asked_for_but_is_not_there_is_a_problem(tmp_path, params):
    photo(tmp_path / "a.jpg")
    text, healthy = examine.examine_data(tmp_path, "cityscapes", params)
    assert not healthy
    assert "cityscapes (as asked)" in text
    assert "leftImg8bit/train: missing" in text
    with pytest.raises(ParamsError, match=r"--source: 'kitti' is no source; known are folder, coco-stuff"):
        examine.examine_data(tmp_path, "kitti", params)


def test_the_command_ends_with_3_where_there_are_problems(tmp_path, params, monkeypatch):
    monkeypatch.setattr(cli, "load_params", lambda: params)
    assert CliRunner().invoke(cli.app, ["doctor", str(MAKERS["voc2012"](tmp_path / "voc"))]).exit_code == 0
    result = CliRunner().invoke(cli.app, ["doctor", str(tmp_path / "nothing")])
    assert result.exit_code == 3
    assert "does not exist" in result.output


def settings(params: Params, **changes) -> Params:
    return params.model_copy(update={"data": params.data.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("source", "preset", "k"),
    [
        ("cityscapes", "cityscapes-27", 27),
        ("coco-stuff", "coco-stuff-27", 27),
        ("potsdam", "potsdam-3", 3),
        ("ade20k", "ade20k", 150),
        ("voc2012", "voc2012", 21),
    ],
)
def test_costs_are_those_of_the_recognised_protocol(tmp_path, params, source, preset, k):
    text, _ = examine.examine_data(MAKERS[source](tmp_path), "", params)
    assert f"settings     params.yaml with preset {preset}, which is for this protocol; --preset takes others" in text
    assert f"with frames of 320 x 320 px and train.k {k}, from steps timed just now" in text
    assert "\nnot counted  time of losses" in text


def test_settings_are_those_of_the_parameters_where_they_name_the_source(tmp_path, params):
    root = MAKERS["cityscapes"](tmp_path)
    text, _ = examine.examine_data(root, "", settings(params, source="cityscapes"))
    assert "settings     params.yaml as it is; --preset lays presets over it" in text
    assert "with frames of 64 x 32 px" in text


def test_settings_are_those_of_presets_that_are_asked_for(tmp_path, params):
    root = MAKERS["camvid"](tmp_path)
    text, _ = examine.examine_data(root, "", params, ["camvid"])
    assert "layout       camvid (recognised)" in text
    assert "settings     params.yaml with preset camvid, as asked" in text
    assert "with frames of 160 x 160 px and train.k 11" in text
    text, _ = examine.examine_data(root, "", params)
    assert "settings     params.yaml as it is" in text  # that preset is for another layout of CamVid
    with pytest.raises(ParamsError, match=r"presets/kitti\.yaml: no such preset"):
        examine.examine_data(root, "", params, ["kitti"])


def test_a_preset_that_does_not_fit_the_parameters_is_not_used(tmp_path, params):
    text, _ = examine.examine_data(
        MAKERS["cityscapes"](tmp_path), "", settings(params, source="folder", ignore_index=0)
    )
    assert "params.yaml as it is, as preset cityscapes-27 does not fit it (" in text
    assert "data.ignore_index: 0 is for source folder" in text


def test_the_command_takes_presets(tmp_path, params, monkeypatch):
    monkeypatch.setattr(cli, "load_params", lambda: params)
    photo(tmp_path / "a.jpg")
    result = CliRunner().invoke(cli.app, ["doctor", str(tmp_path), "--preset", "aerial tiny"])
    assert "with preset aerial and tiny, as asked" in result.output
    assert "and train.k 9" in result.output


def test_channels_values_and_tiles_are_told(tmp_path, params, monkeypatch):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(100, 900, (40, 64, 4), dtype=np.uint16)
        tifffile.imwrite(tmp_path / f"{number}.tif", pixels, photometric="minisblack", planarconfig="contig")
    reckoned: list[tuple] = []
    monkeypatch.setattr(examine, "estimate_costs", lambda *args: reckoned.append(args) or estimate_costs(*args))
    text, healthy = examine.examine_data(tmp_path, "", settings(params, channels=4, tile=32, tile_overlap=8))
    assert healthy, text
    assert "tiles        18 of 32 px, 8 px of it shared with neighbours, from 3 images" in text
    assert "split train  18 images" in text
    assert "channels     4 in 18 files of a random sample; expected are 4 (data.channels)" in text
    assert "values       uint16, about 10" in text
    assert reckoned[0][-1] == 32 * 32 * 4 * 2  # bytes of a tile, 16 bits a channel
    assert (
        "before compression: prepare tiles 0 MB, pretrain weights 48 MB, pretrain checkpoints 288 MB, extract" in text
    )


def test_other_channels_than_expected_are_a_problem_with_its_mend(tmp_path, params):
    np.save(tmp_path / "a.npy", np.zeros((40, 40, 5)))
    Image.new("RGBA", (40, 40)).save(tmp_path / "b.png")
    text, healthy = examine.examine_data(tmp_path, "", params)
    assert not healthy
    assert "a.npy: 5 channels, but data.channels is 3" in text
    assert "channels     4 in 1 files, 5 in 1 files of a random sample; read as RGB" in text
    assert "if they are bands, set data.channels to 5" in text


def test_values_of_different_types_are_a_problem(tmp_path, params):
    for name, kind in (("a", np.uint16), ("b", np.float32)):
        np.save(tmp_path / f"{name}.npy", np.zeros((40, 40, 4), kind))
    text, healthy = examine.examine_data(tmp_path, "", settings(params, channels=4))
    assert not healthy
    assert "b.npy holds float32 values, but a.npy uint16" in text


def test_the_ignored_value_is_respected(tmp_path, params):
    photo(tmp_path / "images/train/a.png")
    mask(tmp_path / "masks/train/a.png", [0, 1, 1, 2])
    text, healthy = examine.examine_data(tmp_path, "", settings(params, ignore_index=0))
    assert healthy, text
    assert "66.7 %  class 1" in text
    assert "25.0 % of the pixels are ignored" in text
