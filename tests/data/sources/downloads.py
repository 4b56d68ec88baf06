"""Small copies of official downloads, in their layouts and under their file names."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 64)  # height, width
COLOURS = {
    "road": "ffffff",
    "building": "0000ff",
    "low": "00ffff",
    "tree": "00ff00",
    "car": "ffff00",
    "clutter": "ff0000",
}


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, values: list[int], *, palette: bool = False, size: tuple[int, int] = SIZE) -> Path:
    """Columns of the given values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.resize(np.array(values, np.uint8), size[1])[None].repeat(size[0], 0)
    image = Image.fromarray(ids)
    if palette:
        image = Image.fromarray(ids, "P")
        image.putpalette(list(range(256)) * 3)
    image.save(path)
    return path


def make_coco(root: Path, masks: str = "stuffthingmaps") -> Path:
    for number, split in ((9, "train"), (25, "train"), (139, "val"), (285, "val")):
        name = f"{split}2017/{number:012d}"
        photo(root / "images" / f"{name}.jpg", number)
        mask(root / masks / f"{name}.png", [0, 2, 91, 92, 123, 156, 181, 255])
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_train2017.json").write_text("{}")
    return root


def make_cityscapes(root: Path) -> Path:
    for city, split in (("aachen", "train"), ("bochum", "train"), ("frankfurt", "val")):
        stem = f"{split}/{city}/{city}_000000_000019"
        photo(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", len(city))
        mask(root / "gtFine" / f"{stem}_gtFine_labelIds.png", [0, 6, 7, 23, 24, 33, 255])
        mask(root / "gtFine" / f"{stem}_gtFine_instanceIds.png", [0])
        (root / "gtFine" / f"{stem}_gtFine_polygons.json").write_text("{}")
    photo(root / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png")
    return root


def make_potsdam(root: Path, size: tuple[int, int] = (400, 800)) -> Path:
    for number, place in enumerate(("2_10", "7_12", "2_13")):
        photo(root / f"2_Ortho_RGB/top_potsdam_{place}_RGB.tif", number, size)
        label = np.zeros((*size, 3), np.uint8)
        for position, colour in enumerate(COLOURS.values()):
            label[:, position::6] = tuple(bytes.fromhex(colour))
        path = root / f"5_Labels_all/top_potsdam_{place}_label.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)
    return root


def make_camvid(root: Path) -> Path:
    for name in ("train/0001TP_006690", "train/0006R0_f00930", "val/0016E5_07959", "test/Seq05VD_f00000"):
        split, stem = name.split("/")
        photo(root / f"{name}.png", len(stem))
        mask(root / f"{split}annot/{stem}.png", [*range(12)])
    (root / "train.txt").write_text(
        "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png\n"
    )
    return root


def make_ade20k(root: Path) -> Path:
    place = root / "ADEChallengeData2016"
    for split, name in (("training", "train"), ("validation", "val")):
        for number in (1, 2):
            stem = f"{split}/ADE_{name}_{number:08d}"
            photo(place / "images" / f"{stem}.jpg", number)
            mask(place / "annotations" / f"{stem}.png", [0, 1, 2, 150])
    (place / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n")
    return root


def make_voc2012(root: Path) -> Path:
    place = root / "VOCdevkit/VOC2012"
    for stem in ("2007_000032", "2007_000039", "2007_000033", "2008_000002"):
        photo(place / f"JPEGImages/{stem}.jpg", len(stem))
    for stem in ("2007_000032", "2007_000039", "2007_000033"):
        mask(place / f"SegmentationClass/{stem}.png", [0, 1, 20, 255], palette=True)
    lists = place / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000033\n")
    return root


MAKERS = {
    "coco-stuff": make_coco,
    "cityscapes": make_cityscapes,
    "potsdam": make_potsdam,
    "camvid": make_camvid,
    "ade20k": make_ade20k,
    "voc2012": make_voc2012,
}
