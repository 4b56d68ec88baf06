"""PASCAL VOC 2012, segmentation (Everingham et al. 2012)."""

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
from pipeline.data.sources.protocol import Protocol, number_classes

LAYOUT = "JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/{train,val}.txt (also below VOC2012)"
_ANNOTATIONS = ("SegmentationClass", "SegmentationObject")
_THINGS = (
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse, motorbike, person, "
    "potted plant, sheep, sofa, train, tv monitor"
)

VOC2012 = Protocol(
    name="voc2012-21",
    classes=("background", *_THINGS.split(", ")),
    kinds=("stuff",) + ("thing",) * 20,
    mask_ids=number_classes(0, 21, ignored=(255,)),
    note="21 classes, background included; the borders of objects (255) are ignored",
)


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: images with lists for segmentation, or annotations."""
    place = _inner(root)
    listed = (place / "JPEGImages").is_dir() and (place / "ImageSets" / "Segmentation").is_dir()
    return listed or mask_folder(root) is not None


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return first_folder(_inner(root), *_ANNOTATIONS)


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List the images that `train.txt` and `val.txt` name, with their masks.

    Args:
        root: The folder that holds `JPEGImages`, or one above it: `VOCdevkit` and `VOC2012` are looked into.
        id_lists: Not used.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: A folder or list is missing, or an image or its mask is.
    """
    place = _inner(root)
    images = require_files(place / "JPEGImages", "*.jpg", ".jpg", LAYOUT)
    masks = MaskFiles(place / "SegmentationClass", "*.png", ".png", shared=True)
    found = []
    for split in ("train", "val"):
        path = place / "ImageSets" / "Segmentation" / f"{split}.txt"
        named = select_ids(images, read_ids(path), path)
        found += pair_masks(split, named, masks, findings)
    return found


def _inner(root: Path) -> Path:
    places = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((place for place in places if first_folder(place, "JPEGImages", *_ANNOTATIONS)), root)
