"""CamVid as SegNet's authors prepared it: eleven classes, splits in folders (Badrinarayanan et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.listing import SourceImage, find_files, pair_masks, require_files
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
    """Whether a folder looks like this download."""
    return (root / "train").is_dir() and (root / "trainannot").is_dir()


def list_images(root: Path, id_lists: str = "all") -> list[SourceImage]:
    """List the images of the three splits with their masks.

    Args:
        root: The folder that holds `train`, `trainannot` and so on.
        id_lists: Not used.

    Raises:
        InputError: `train` is missing or empty, or an image lacks its mask.
    """
    found = pair_masks(
        "train",
        require_files(root / "train", "*.png", ".png", LAYOUT),
        find_files(root / "trainannot", "*.png", ".png"),
    )
    for split in ("val", "test"):
        if images := find_files(root / split, "*.png", ".png"):
            found += pair_masks(split, images, find_files(root / f"{split}annot", "*.png", ".png"))
    return found
