"""Every source from the download to the ground truth, against what its masks were painted with."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pipeline.data.classes import parse_classes
from pipeline.data.manifest import read_images, read_truth
from pipeline.data.prepare import prepare_images
from pipeline.data.sources.listing import Findings
from pipeline.data.sources.registry import PROTOCOLS, SOURCES
from pipeline.errors import InputError
from pipeline.evaluation.truth import GroundTruth, open_truth
from pipeline.params import DataParams, load_params
from tests.data.sources.downloads import MAKERS, SIZE, mask, photo

DATA = load_params(Path(__file__).parents[3] / "params.yaml").data
IGNORED = 255


def prepared(root: Path, out: Path, source: str, unknown: str = "error", **changes) -> tuple[GroundTruth, list]:
    out.mkdir(exist_ok=True)
    keys = {"source": source, "root": str(root), "resize": 32, "crop": "none", "min_side": 8, **changes}
    prepare_images(DATA.model_copy(update=keys), out, final=out, threads=2)
    table = read_images(out / "images.parquet")
    truth = open_truth(table, read_truth(out / "truth.parquet"), "auto", unknown)
    assert truth is not None
    return truth, table.rows


def columns(*ids: int) -> np.ndarray:
    return np.resize(ids, SIZE[1])


@pytest.mark.parametrize(
    ("source", "protocol", "image", "expected"),
    [
        # fine ids 0 person, 2 car, 91 banner, 92 blanket, 123 grass, 156 sky-other, 181 wood, 255 unlabelled
        ("coco-stuff", "auto", "val/000000000139.jpg", (9, 11, 17, 17, 22, 23, 24, IGNORED)),
        ("coco-stuff", "coco-stuff-15", "val/000000000139.jpg", (IGNORED, IGNORED, 5, 5, 10, 11, 12, IGNORED)),
        ("coco-stuff", "coco-stuff-3", "val/000000000139.jpg", (*(IGNORED,) * 4, 1, 0, IGNORED, IGNORED)),
        ("cityscapes", "auto", "val/frankfurt/frankfurt_000000_000019.png", (255, 255, 0, 16, 17, 26, 255)),
        ("camvid", "auto", "val/0016E5_07959.png", (*range(11), IGNORED)),
        ("ade20k", "ade20k-150", "val/ADE_val_00000001.jpg", (IGNORED, 0, 1, 149)),
        ("voc2012", "auto", "val/2007_000033.jpg", (0, 1, 20, IGNORED)),
    ],
)
def test_masks_are_read_as_the_protocol_says(tmp_path, source, protocol, image, expected):
    truth, _ = prepared(MAKERS[source](tmp_path / "download"), tmp_path / "out", source, protocol=protocol)
    assert truth.classes.protocol == (SOURCES[source].protocols[0].name if protocol == "auto" else protocol)
    read = truth.read(image)
    assert read.shape == SIZE
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, columns(*expected)[None].repeat(SIZE[0], 0))


def test_potsdam_is_read_tile_by_tile(tmp_path):
    root = MAKERS["potsdam"](tmp_path / "download")
    truth, rows = prepared(root, tmp_path / "out", "potsdam", resize=416)
    tiles = [
        f"{s}/top_potsdam_{p}/r00c0{c}.png"
        for s, p in (("train", "2_10"), ("train", "7_12"), ("val", "2_13"))
        for c in (0, 1)
    ]
    assert [row.image_id for row in rows] == tiles
    whole = np.array(Image.open(root / "2_Ortho_RGB/top_potsdam_2_13_RGB.tif"))
    np.testing.assert_array_equal(np.array(Image.open(rows[-1].path)), whole[:, 400:])
    # 400 columns brought to 416 by the nearest pixel; the sixth parts of the tile start where 400 = 6 * 66 + 4 says
    coarse = np.array([0, 1, 2, 2, 0, 1])
    nearest = np.floor((np.arange(416) + 0.5) * 400 / 416).astype(int)
    np.testing.assert_array_equal(truth.read(tiles[-1])[5], coarse[(400 + nearest) % 6])
    np.testing.assert_array_equal(truth.read(tiles[-2])[5], coarse[nearest % 6])


@pytest.mark.parametrize("source", MAKERS)
def test_images_have_splits_and_sorted_ids(tmp_path, source):
    images = SOURCES[source].list_images(MAKERS[source](tmp_path), "all")
    assert {image.split for image in images} == {"train", "val"} | ({"test"} if source == "camvid" else set())
    assert all(image.image_id.startswith(f"{image.split}/") for image in images)
    assert all(image.path.is_file() and image.mask_path and image.mask_path.is_file() for image in images)
    assert SOURCES[source].recognises(tmp_path)
    assert [name for name, other in SOURCES.items() if other.recognises(tmp_path)] == [source]


@pytest.mark.parametrize("source", MAKERS)
def test_nothing_of_the_masks_but_truth_depends_on_them(tmp_path, source):
    root = MAKERS[source](tmp_path / "download")
    prepared(root, tmp_path / "out", source)
    before = (tmp_path / "out/images.parquet").read_bytes()
    for image in SOURCES[source].list_images(root, "all"):
        assert image.mask_path
        with Image.open(image.mask_path) as old:
            size, mode = old.size, old.mode
        noise = np.random.default_rng(1).integers(
            0, 256, (size[1], size[0], len(mode) if mode == "RGB" else 1), np.uint8
        )
        Image.fromarray(noise.squeeze()).save(image.mask_path)
    prepared(root, tmp_path / "out", source)
    assert (tmp_path / "out/images.parquet").read_bytes() == before


@pytest.mark.parametrize("source", MAKERS)
def test_another_folder_is_told_what_the_download_looks_like(tmp_path, source):
    with pytest.raises(InputError, match=r"missing; data\.root must hold the download as it is"):
        SOURCES[source].list_images(tmp_path, "all")
    assert not SOURCES[source].recognises(tmp_path)


@pytest.mark.parametrize("source", MAKERS)
def test_an_image_without_its_mask_is_named(tmp_path, source):
    images = SOURCES[source].list_images(MAKERS[source](tmp_path), "all")
    assert images[0].mask_path
    images[0].mask_path.unlink()
    with pytest.raises(InputError, match=r"has no mask, as 1 of the \d+ images of split train") as caught:
        SOURCES[source].list_images(tmp_path, "all")
    assert str(images[0].path) in str(caught.value)


@pytest.mark.parametrize("source", MAKERS)
def test_all_that_is_wrong_with_masks_can_be_collected(tmp_path, source, caplog):
    images = SOURCES[source].list_images(MAKERS[source](tmp_path), "all")
    lost = [images[0], *(image for image in images if image.split == "val")]
    for image in lost:
        assert image.mask_path
        image.mask_path.unlink()
    findings = Findings()
    found = SOURCES[source].list_images(tmp_path, "all", findings)
    assert [image.image_id for image in found] == [image.image_id for image in images]
    assert [image.image_id for image in found if image.mask_path is None] == [image.image_id for image in lost]
    train, *rest = findings.problems + findings.notes
    assert train.startswith(f"{images[0].path}: has no mask, as 1 of the 2 images of split train")
    assert [text.split(";")[0] for text in rest] == ["split val: no masks were found, so it cannot be scored"]
    assert not caplog.records


def test_masks_are_optional_and_those_without_an_image_are_told(tmp_path, caplog):
    root = MAKERS["cityscapes"](tmp_path)
    mask(root / "gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_labelIds.png", [7])
    for path in (root / "gtFine/train").rglob("*_labelIds.png"):
        path.unlink()
    images = SOURCES["cityscapes"].list_images(root, "all")
    assert [image.mask_path is None for image in images] == [True, True, False]
    text = [record.getMessage() for record in caplog.records]
    expected = f"{root}/gtFine/train holds no */*_gtFine_labelIds.png"
    assert text[0] == f"split train: no masks were found, so it cannot be scored; {expected}"
    assert text[1].startswith("split val: 1 masks have no image, such as ")


def test_ids_outside_the_table_are_an_error_or_ignored(tmp_path):
    root = MAKERS["camvid"](tmp_path / "download")
    mask(root / "valannot/0016E5_07959.png", [0, 12, 200])
    truth, _ = prepared(root, tmp_path / "out", "camvid")
    expected = r"0016E5_07959\.png: ids 12, 200 are not in the table of protocol camvid-11; .*evaluate\.unknown_ids"
    with pytest.raises(InputError, match=expected):
        truth.read("val/0016E5_07959.png")
    truth, _ = prepared(root, tmp_path / "out", "camvid", unknown="ignore")
    np.testing.assert_array_equal(truth.read("val/0016E5_07959.png")[0], columns(0, 255, 255))


def test_colours_outside_the_table_are_named_as_colours(tmp_path):
    root = MAKERS["potsdam"](tmp_path / "download")
    path = root / "5_Labels_all/top_potsdam_2_13_label.tif"
    pixels = np.array(Image.open(path))
    pixels[3, 3] = (252, 255, 0)
    Image.fromarray(pixels).save(path)
    truth, _ = prepared(root, tmp_path / "out", "potsdam")
    truth.read("val/top_potsdam_2_13/r00c01.png")
    with pytest.raises(InputError, match=r"xywh=0,0,400,400: ids #fcff00 are not in the table"):
        truth.read("val/top_potsdam_2_13/r00c00.png")


def test_a_mask_of_another_size_is_an_error(tmp_path):
    root = MAKERS["voc2012"](tmp_path / "download")
    mask(root / "VOCdevkit/VOC2012/SegmentationClass/2007_000039.png", [0], size=(30, 64))
    with pytest.raises(InputError, match=r"2007_000039\.png: the mask is 64 x 30.*64 x 32"):
        prepared(root, tmp_path / "out", "voc2012")


@pytest.mark.parametrize(
    ("mode", "size", "problem"), [("L", (800, 400), "of mode L"), ("RGB", (800, 401), "800 x 401")]
)
def test_a_mask_that_does_not_fit_its_tiles_is_an_error(tmp_path, mode, size, problem):
    root = MAKERS["potsdam"](tmp_path / "download")
    Image.new(mode, size).save(root / "5_Labels_all/top_potsdam_7_12_label.tif")
    with pytest.raises(InputError, match=rf"top_potsdam_7_12_label\.tif: the mask is .*{problem}|{problem}"):
        prepared(root, tmp_path / "out", "potsdam")


def test_potsdam_refuses_small_images_and_other_names(tmp_path):
    root = MAKERS["potsdam"](tmp_path, (399, 800))
    with pytest.raises(InputError, match="800 x 399 pixels are less than a tile of 400"):
        prepared(root, tmp_path / "out", "potsdam")
    photo(root / "2_Ortho_RGB/berlin_RGB.tif")
    with pytest.raises(InputError, match=r"berlin_RGB\.tif: not named top_potsdam_ROW_COLUMN_RGB\.tif"):
        SOURCES["potsdam"].list_images(root, "all")


def test_potsdam_can_be_cut_otherwise(tmp_path):
    root = MAKERS["potsdam"](tmp_path / "download")
    truth, rows = prepared(root, tmp_path / "out", "potsdam", tile=320, tile_overlap=64)
    places = [f"y{y:05d}x{x:05d}.png" for y in (0, 80) for x in (0, 256, 480)]
    assert [row.image_id.rsplit("/", 1)[1] for row in rows[-6:]] == places
    # frames of 32 pixels from tiles of 320: columns 0 to 28 are scored here, the others in the next tile
    first = truth.read(rows[-6].image_id)
    assert np.flatnonzero((first != IGNORED).any(axis=0)).tolist() == list(range(29))


def test_the_parameters_know_all_sources_and_protocols():
    fields = DataParams.model_fields
    assert set(get_args(fields["source"].annotation)) == {"scenes", "folder", *SOURCES}
    assert set(get_args(fields["protocol"].annotation)) == {"auto", *PROTOCOLS}
    for name, source in SOURCES.items():
        assert all(protocol.name.startswith(f"{name}-") for protocol in source.protocols)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_a_valid_class_list(name):
    classes = parse_classes(PROTOCOLS[name].classes_text(), name)
    assert len(classes.names) == int(name.rsplit("-", 1)[1])
    assert classes.protocol == name
    assert classes.mask_ids
    assert set(classes.mask_ids.classes) - {IGNORED} == set(range(len(classes.names)))
