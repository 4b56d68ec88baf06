"""Which layout a folder is taken for, and which downloads are refused as a folder of one's own."""

import shutil
from pathlib import Path

import pytest

from pipeline.data.sources.registry import SOURCES, list_source, recognise_source
from pipeline.errors import InputError
from pipeline.params import load_params
from tests.data.sources.downloads import MAKERS

DATA = load_params(Path(__file__).parents[3] / "params.yaml").data.model_copy(update={"source": "folder"})
# what of a download is taken away, so that the rest is only a part of it
PARTS = [
    ("coco-stuff", "images/train2017"),
    ("coco-stuff", "images/val2017"),
    ("coco-stuff", "stuffthingmaps"),
    ("coco-stuff", "images"),
    ("cityscapes", "leftImg8bit/train"),
    ("cityscapes", "leftImg8bit"),
    ("cityscapes", "gtFine"),
    ("potsdam", "2_Ortho_RGB"),
    ("potsdam", "5_Labels_all"),
    ("camvid", "train"),
    ("camvid", "trainannot"),
    ("ade20k", "ADEChallengeData2016/images/training"),
    ("ade20k", "ADEChallengeData2016/images"),
    ("ade20k", "ADEChallengeData2016/annotations"),
    ("voc2012", "VOCdevkit/VOC2012/ImageSets"),
    ("voc2012", "VOCdevkit/VOC2012/JPEGImages"),
    ("voc2012", "VOCdevkit/VOC2012/SegmentationClass"),
]


def touch(root: Path, *names: str) -> Path:
    """Make empty files: recognising opens none of them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def listed(root: Path) -> list[str]:
    return [image.image_id for image in list_source(DATA, root)[0]]


@pytest.mark.parametrize(("source", "absent"), PARTS)
def test_a_part_of_a_download_is_recognised(tmp_path, source, absent):
    shutil.rmtree(MAKERS[source](tmp_path) / absent)
    assert recognise_source(tmp_path) == source
    assert [name for name, other in SOURCES.items() if other.recognises(tmp_path)] == [source]


@pytest.mark.parametrize("source", MAKERS)
def test_a_download_with_annotations_is_no_folder_of_photos(tmp_path, source):
    with pytest.raises(InputError) as caught:
        listed(MAKERS[source](tmp_path))
    text = str(caught.value)
    assert text.startswith(f"data.root: {tmp_path} is laid out as {source}, ")
    assert f"the annotations in {SOURCES[source].mask_folder(tmp_path)} for masks; set data.source={source}, " in text


@pytest.mark.parametrize(
    "names",
    [
        ("gtCoarse/train/a/a_gtCoarse_color.png", "leftImg8bit/train/a/a_leftImg8bit.png"),
        ("testannot/a.png", "test/a.png"),
        ("SegmentationObject/a.png", "JPEGImages/a.jpg"),
        ("2_Ortho_RGB/top_potsdam_2_10_RGB.tif", "5_Labels_for_participants/top_potsdam_2_10_label.tif"),
        ("annotations/validation/a.png", "images/validation/a.jpg"),
    ],
)
def test_annotations_of_any_kind_are_not_taken_for_photos(tmp_path, names):
    with pytest.raises(InputError, match=r"set data\.source="):
        listed(touch(tmp_path, *names))


@pytest.mark.parametrize(
    "names",
    [
        ("a.jpg", "train/b.jpg", "val/c.jpg", "test/d.jpg"),
        ("images/a.jpg",),
        ("images/train/a.jpg", "images/val/b.jpg"),
        ("images/train/a.jpg", "masks/train/a.png", "classes.json"),
        ("images/train/a.jpg", "images/validation/b.jpg", "annotations/instances.json"),
        ("images/validation/b.jpg", "images/test/b.jpg"),
        ("JPEGImages/480p/bear/00000.jpg",),
    ],
)
def test_ordinary_folders_are_folders(tmp_path, names):
    touch(tmp_path, *names)
    if (tmp_path / "classes.json").exists():
        (tmp_path / "classes.json").write_text('{"classes": [{"id": 0, "name": "sky"}]}')
    assert recognise_source(tmp_path) == "folder"
    assert listed(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        # images alone hold nothing that could be taken for a photo
        ("images/train2017/a.jpg", "images/val2017/b.jpg", "annotations/instances_train2017.json"),
        ("leftImg8bit/train/aachen/a_leftImg8bit.png",),
        ("2_Ortho_RGB/top_potsdam_2_10_RGB.tif",),
        # the layout with splits is obeyed, whatever a conversion has left beside it
        ("images/train/a.jpg", "masks/train/a.png", "stuffthingmaps/train2017/a.png"),
        ("images/training/a.jpg", "masks/training/a.png", "annotations/training/a.png"),
        ("images_unlabelled/a.jpg", "gtFine/train/a/a_gtFine_color.png"),
        ("images/train/a.jpg", "leftImg8bit/train/a/a_leftImg8bit.png", "gtFine/train/a/a_gtFine_labelIds.png"),
    ],
)
def test_nothing_else_is_refused(tmp_path, names):
    photos = [name for name in names if name.startswith(("images", "leftImg8bit", "2_Ortho"))]
    assert 0 < len(listed(touch(tmp_path, *names))) <= len(photos)


def test_a_layout_with_splits_is_a_folder_whatever_lies_beside_it(tmp_path):
    root = MAKERS["cityscapes"](tmp_path)
    assert recognise_source(root) == "cityscapes"
    assert recognise_source(touch(root, "images/train/a.jpg")) == "folder"
