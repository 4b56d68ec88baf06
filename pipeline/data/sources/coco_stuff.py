"""COCO-Stuff 164k (Caesar et al. 2018) with the coarse classes of unsupervised segmentation."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.listing import (
    Findings,
    MaskFiles,
    SourceImage,
    first_folder,
    pair_masks,
    read_ids,
    require_files,
    select_ids,
)
from pipeline.data.sources.protocol import Protocol
from pipeline.errors import InputError

LAYOUT = "images/{train,val}2017/*.jpg, stuffthingmaps/{train,val}2017/*.png (or annotations/…)"
USUAL_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_THINGS = (
    "electronic, appliance, food-thing, furniture-thing, indoor, kitchen, accessory, animal, outdoor, person, sports, "
    "vehicle"
)
_STUFF = (
    "ceiling, floor, food-stuff, furniture-stuff, raw-material, textile, wall, window, building, ground, plant, sky, "
    "solid, structural, water"
)
_COARSE = (*_THINGS.split(", "), *_STUFF.split(", "))
# of each id 0 to 181 of the stuffthingmaps, as in the code of PiCIE and STEGO
_COARSE_OF_FINE = """
9 11 11 11 11 11 11 11 11 8 8 8 8 8 8 7 7 7 7 7 7 7 7 7 7 6 6 6 6 6 6 6 6 10 10 10 10 10 10 10 10 10 10 5 5
5 5 5 5 5 5 2 2 2 2 2 2 2 2 2 2 3 3 3 3 3 3 3 3 3 3 0 0 0 0 0 0 1 1 1 1 1 1 4 4 4 4 4 4 4 4 17 17 22 20 20
22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14 15 22 21 21 24 20 22 15 17 16
15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26 15 23 20 21 24 15 24 22 25 15 20 17 17
22 14 18 18 18 18 18 18 18 26 26 19 19 24
"""


def _protocol(name: str, kept: tuple[str, ...], note: str) -> Protocol:
    """The coarse classes that a protocol keeps; pixels of the others are ignored."""
    table: dict[int | str, int | None] = {255: None}
    for fine, coarse in enumerate(_COARSE_OF_FINE.split()):
        coarse_name = _COARSE[int(coarse)]
        table[fine] = kept.index(coarse_name) if coarse_name in kept else None
    kinds = tuple("thing" if name in _THINGS.split(", ") else "stuff" for name in kept)
    return Protocol(name, kept, kinds, table, note)


COCO_STUFF_27 = _protocol("coco-stuff-27", _COARSE, "182 fine ids to 27 coarse classes, as in PiCIE (Cho et al. 2021)")
COCO_STUFF_15 = _protocol(
    "coco-stuff-15", _COARSE[12:], "the 15 coarse stuff classes, things ignored, as in IIC (Ji et al. 2019)"
)
COCO_STUFF_3 = _protocol("coco-stuff-3", ("sky", "plant", "ground"), "three coarse classes, as in IIC (Ji et al. 2019)")


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: images of any split, or annotations without images."""
    images = root / "images"
    if images.is_dir():
        return first_folder(images, "train2017", "val2017") is not None
    return mask_folder(root) is not None


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return first_folder(root, "stuffthingmaps", "annotations/train2017", "annotations/val2017")


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List the images of train2017 and val2017 with their masks.

    Args:
        root: The folder that holds `images` and `stuffthingmaps` (or `annotations`).
        id_lists: Folder of the lists of ids to use, in `train2017` and `val2017`, one a folder, or
            `Coco164kFull_Stuff_Coarse_7.txt` among several; relative to `root` unless absolute. "all": all images.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: The train images or a list are missing, or an image lacks its mask.
    """
    found = []
    for split in ("train", "val"):
        folder = root / "images" / f"{split}2017"
        if split == "val" and not folder.is_dir():
            continue
        images = require_files(folder, "*.jpg", ".jpg", LAYOUT)
        if id_lists != "all":
            path = _find_list(root / id_lists / f"{split}2017")
            images = select_ids(images, read_ids(path), path)
        masks = MaskFiles(_masks_of(root, split), "*.png", ".png", shared=id_lists != "all")
        found += pair_masks(split, images, masks, findings)
    return found


def _masks_of(root: Path, split: str) -> Path:
    maps, others = (root / place / f"{split}2017" for place in ("stuffthingmaps", "annotations"))
    return others if others.is_dir() and not maps.is_dir() else maps


def _find_list(folder: Path) -> Path:
    lists = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if len(lists) == 1:
        return lists[0]
    usual = folder / USUAL_LIST
    if usual in lists:
        return usual
    problem = f"holds {len(lists)} lists" if lists else "holds no list (*.txt)"
    raise InputError(
        f"data.id_lists: {folder} {problem}; leave one there, name one {USUAL_LIST}, or set data.id_lists to all"
    )
