import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from pipeline.cli import app
from pipeline.data.classes import parse_classes
from pipeline.data.frames import Frame, mask_to_frame
from pipeline.data.sources.registry import PROTOCOLS, SOURCES
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.official import OFFICIAL, SHORT_NAMES, find_protocol, list_masks, shorten_name
from pipeline.evaluation.pair_reading import PairReader
from pipeline.evaluation.scoring import OfficialRequest, score_folders
from pipeline.params import known_keys
from pipeline.runtime.artifacts import open_artifact
from tests.data.sources.downloads import MAKERS, make_ade20k, make_cityscapes, make_coco, make_voc2012, mask

ROOT = Path(__file__).parents[2]
SOURCE_OF = {protocol.name: name for name, source in SOURCES.items() for protocol in source.protocols}


def names_of(truth, name, split="val", ids=None, cut=True):
    return [mask.name for mask in list_masks(truth, find_protocol(name)[1], split, ids, cut=cut)]


def test_every_protocol_of_the_sources_can_be_scored():
    assert OFFICIAL.keys() == PROTOCOLS.keys()
    for short, name in SHORT_NAMES.items():
        assert find_protocol(short)[0] is PROTOCOLS[name]
    with pytest.raises(ParamsError, match=r"--protocol: none is called 'coco'; the protocols are coco-stuff-27, "):
        find_protocol("coco")


@pytest.mark.parametrize("name", OFFICIAL)
def test_masks_are_those_that_the_source_lists(tmp_path, name):
    root = MAKERS[SOURCE_OF[name]](tmp_path)
    listed = {
        each.mask_path: each.image_id
        for each in SOURCES[SOURCE_OF[name]].list_images(root, "all")
        if each.split == "val"
    }
    found = list_masks(root, OFFICIAL[name], "val", None, cut=False)
    assert [each.path for each in found] == list(listed)
    if not OFFICIAL[name].tile:
        for mine, image_id in zip(found, listed.values(), strict=True):
            assert shorten_name(image_id.rsplit(".", 1)[0], OFFICIAL[name]) == f"val/{mine.name}"


def test_masks_of_potsdam_are_cut_into_the_tiles_of_the_images(tmp_path):
    root = MAKERS["potsdam"](tmp_path)
    tiles = list_masks(root, OFFICIAL["potsdam-3"], "val", None, cut=True)
    assert [each.name for each in tiles] == ["top_potsdam_2_13/r00c00", "top_potsdam_2_13/r00c01"]
    assert [each.window for each in tiles] == [(slice(0, 400), slice(x, x + 400)) for x in (0, 400)]


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_perfect_prediction_of_the_raw_download_scores_100(tmp_path, name):
    """Each method's label PNGs at the protocol's resolution, numbered otherwise, against untouched files."""
    root = MAKERS[SOURCE_OF[name]](tmp_path / "download")
    protocol, official = find_protocol(name)
    reader = PairReader(parse_classes(protocol.classes_text(), name), official.frame)
    for found in list_masks(root, official, "val", None, cut=True):
        values = np.array(Image.open(found.path))
        if values.ndim == 3:
            values = (values.astype(int) << np.array([16, 8, 0])).sum(2)
        ids = np.full(values.shape, 200)
        for value, class_id in protocol.mask_ids.items():
            number = int(value[1:], 16) if isinstance(value, str) else value
            ids[values == number] = 200 if class_id is None else class_id + 20
        ids = ids[found.window] if found.window else ids
        framed = mask_to_frame(ids, reader.frame) if reader.frame else ids
        path = tmp_path / f"predictions/{found.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(framed.astype(np.uint8)).save(path)

    metrics, notes = score(tmp_path, root, OfficialRequest(name))

    assert set(metrics["all"].values()) == {100.0}
    assert set(metrics["per_class"]) <= set(protocol.classes)
    assert notes["protocol"].split(";")[0] == name
    assert notes["split"].startswith("val, ")
    assert ("short side 320 px" in notes["frame"]) == (official.frame == Frame(320, "center", 320))


def score(folder, truth, official, **changes):
    options = {"classes_file": None, "rule": "hungarian", "boundary": False, "resize": False, "seed": 0} | changes
    score_folders(folder / "predictions", truth, official=official, output=folder / "out", **options)
    out = open_artifact(folder / "out")
    return out.json("metrics.json"), out.json("protocol.json")


def test_cityscapes_has_the_set_of_picie_and_images_need_not_be_there(tmp_path):
    root = make_cityscapes(tmp_path)
    for path in (root / "leftImg8bit").rglob("*.png"):
        path.unlink()
    assert names_of(root, "cityscapes-27") == ["frankfurt/frankfurt_000000_000019"]
    assert names_of(root, "cityscapes-27", "picie") == names_of(root, "cityscapes-27", "train+val")
    assert len(names_of(root, "cityscapes-27", "picie")) == 3


def test_a_single_split_may_be_given_by_its_own_folder(tmp_path):
    root = make_cityscapes(tmp_path / "cityscapes")
    assert names_of(root / "gtFine/val", "cityscapes-27") == names_of(root, "cityscapes-27")
    with pytest.raises(InputError, match=r"gtFine/val: holds the masks of split val, but --split is train; change one"):
        names_of(root / "gtFine/val", "cityscapes-27", "train")
    (root / "gtFine/val").rename(tmp_path / "masks")
    assert names_of(tmp_path / "masks", "cityscapes-27") == ["frankfurt/frankfurt_000000_000019"]
    ade = make_ade20k(tmp_path / "ade") / "ADEChallengeData2016"
    assert names_of(ade, "ade20k") == names_of(ade.parent, "ade20k") == ["ADE_val_00000001", "ADE_val_00000002"]


def test_lists_name_what_is_scored(tmp_path):
    coco, listed = make_coco(tmp_path / "coco"), tmp_path / "list.txt"
    listed.write_text("000000000285\n")
    assert names_of(coco, "coco-stuff-27") == ["000000000139", "000000000285"]
    assert names_of(coco, "coco-stuff-27", ids=listed) == ["000000000285"]
    voc = make_voc2012(tmp_path / "voc")
    assert names_of(voc, "voc2012") == ["2007_000033"]
    assert names_of(voc / "VOCdevkit/VOC2012/SegmentationClass", "voc2012", "train+val") == names_of(
        voc, "voc2012", "train+val"
    )
    listed.write_text("000000000285\n7\n")
    with pytest.raises(InputError, match=r"list\.txt: 1 of 2 names have no mask, such as '7'"):
        names_of(coco, "coco-stuff-27", ids=listed)
    with pytest.raises(InputError, match=r"gone\.txt: the list of ids cannot be read"):
        names_of(coco, "coco-stuff-27", ids=tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", "there is none called 'test'; the splits of this protocol are train, val, picie"),
        ("val+val", "'val.val' names one twice"),
    ],
)
def test_a_split_that_the_protocol_has_not_is_refused(tmp_path, split, message):
    with pytest.raises(ParamsError, match=f"--split: {message}"):
        names_of(make_cityscapes(tmp_path), "cityscapes-27", split)


def test_a_folder_of_another_layout_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone: does not exist; give the folder of the download"):
        names_of(tmp_path / "gone", "camvid")
    with pytest.raises(InputError, match=r"has no folder gtFine/val or val; give the folder of the download"):
        names_of(tmp_path, "cityscapes-27")
    (tmp_path / "valannot").mkdir()
    with pytest.raises(InputError, match=r"valannot: holds no mask \*\.png of split val"):
        names_of(tmp_path, "camvid")


def test_values_outside_the_table_of_the_protocol_are_an_error(tmp_path):
    root = MAKERS["camvid"](tmp_path / "download")
    mask(root / "valannot/0016E5_07959.png", [0, 12])
    mask(tmp_path / "predictions/0016E5_07959.png", [0])
    with pytest.raises(InputError, match=r"07959\.png: values 12 are not in the table of protocol camvid-11"):
        score(tmp_path, root, OfficialRequest("camvid"))


def test_a_download_without_a_labelled_pixel_is_nothing_to_evaluate(tmp_path):
    root = MAKERS["camvid"](tmp_path / "download")
    mask(root / "valannot/0016E5_07959.png", [11])
    mask(tmp_path / "predictions/0016E5_07959.png", [0])
    with pytest.raises(InputError, match="nothing to evaluate"):
        score(tmp_path, root, OfficialRequest("camvid"))


@pytest.mark.parametrize("k", [3, 40])
def test_any_number_of_clusters_is_scored_whole_and_in_the_crop(tmp_path, k):
    root = make_cityscapes(tmp_path / "download")
    mask(tmp_path / "predictions/frankfurt_000000_000019.png", [*range(k)])
    whole, notes = score(tmp_path, root, OfficialRequest("cityscapes-27", full=True))
    assert whole["clusters"]["k"] == min(k, 64)
    stored = np.array(Image.open(next((root / "gtFine/val").glob("*/*labelIds.png"))))
    assert whole["protocol"]["pixels"] == np.count_nonzero((stored >= 7) & (stored <= 33))
    assert notes["frame"].startswith("the masks as they are stored")
    cropped, _ = score(tmp_path, root, OfficialRequest("cityscapes-27"))
    assert cropped["protocol"]["pixels"] != whole["protocol"]["pixels"]
    assert whole["all"]["pixel_accuracy"] <= whole["majority"]["pixel_accuracy"]


def test_options_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(ParamsError, match="--classes: protocol camvid has its own classes"):
        score(tmp_path, tmp_path, OfficialRequest("camvid"), classes_file=tmp_path / "classes.json")
    with pytest.raises(ParamsError, match="--split, --ids and --full belong to a protocol"):
        OfficialRequest("", full=True)


def test_the_page_on_evaluation_names_what_exists():
    page = (ROOT / "docs/evaluation.md").read_text("utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if "--protocol" in line and line[0] == "|"]
    assert set(rows) >= OFFICIAL.keys()
    protocols = re.findall(r"--protocol ([a-z0-9-]+)", page)
    assert protocols
    assert all(find_protocol(name) for name in protocols)
    presets = {name for names in re.findall(r"fs4 preset ([a-z0-9 +-]+)\)", page) for name in names.split()}
    assert presets
    assert presets <= {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert set(re.findall(r"-S ([a-z_.]+)=", page)) | set(re.findall(r"`(evaluate\.[a-z_.]+)`", page)) <= set(
        known_keys()
    )
    options = {text for option in get_command(app).commands["score"].params for text in option.opts}
    assert set(re.findall(r"(--[a-z-]+[a-z])", page)) <= options
