"""CamVid as SegNet's authors prepared it: eleven classes, splits in folders (Badrinarayanan et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.listing import (
    Findings,
    MaskFiles,
    SourceImage,
    find_files,
    first_folder,
    pair_masks,
    require_files,
)
from pipeline.data.sources.protocol import Protocol, number_classes

LAYOUT = "train/*.png, trainannot/*.png, and likewise val, test"
_CLASSES = "sky building pole road pavement tree sign_symbol fence car pedestrian bicyclist"
_THINGS = {"pole", "sign_symbol", "car", "pedestrian", "bicyclist"}

CAMVID = Protocol(
    name="camvid-11",
    classes=tuple(_CLASSES.split()),
    kinds=tuple("thing" if name in _THINGS else "stuff" for name in _CLASSES.split()),
    mask_ids=number_classes(0, 11, ignored=(11,)),
    note="SegNet's eleven classes; 11 (unlabelled) is ignored",
)


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: annotations of any split, as `train` is a usual name."""
    return mask_folder(root) is not None


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return first_folder(root, *(f"{split}annot" for split in ("train", "val", "test")))


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List the images of the three splits with their masks.

    Args:
        root: The folder that holds `train`, `trainannot` and so on.
        id_lists: Not used.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: `train` is missing or empty, or an image lacks its mask.
    """
    splits = {"train": require_files(root / "train", "*.png", ".png", LAYOUT)}
    splits |= {split: find_files(root / split, "*.png", ".png") for split in ("val", "test")}
    found = []
    for split, images in splits.items():
        if images:
            found += pair_masks(split, images, MaskFiles(root / f"{split}annot", "*.png", ".png"), findings)
    return found
