"""Cityscapes (Cordts et al. 2016): fine annotations, images by city."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.listing import Findings, MaskFiles, SourceImage, first_folder, pair_masks, require_files
from pipeline.data.sources.protocol import Protocol, number_classes

LAYOUT = "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_gtFine_labelIds.png"
_STUFF = (
    "road, sidewalk, parking, rail track, building, wall, fence, guard rail, bridge, tunnel, pole, polegroup, "
    "traffic light, traffic sign, vegetation, terrain, sky"
)
_THINGS = "person, rider, car, truck, bus, caravan, trailer, train, motorcycle, bicycle"
_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"

CITYSCAPES_27 = Protocol(
    name="cityscapes-27",
    classes=(*_STUFF.split(", "), *_THINGS.split(", ")),
    kinds=("stuff",) * 17 + ("thing",) * 10,
    # a licence plate, -1 in the table of ids, is 255 in the 8-bit files
    mask_ids=number_classes(7, 27, ignored=(*range(7), 255)),
    note="labelIds 7 to 33, as in PiCIE (Cho et al. 2021); things are the classes with instances",
)


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: images or annotations of any split."""
    return (root / "leftImg8bit").is_dir() or mask_folder(root) is not None


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return first_folder(root, "gtFine", "gtCoarse")


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List the images of train and val with their masks; the labels of test are not published.

    Args:
        root: The folder that holds `leftImg8bit` and `gtFine`.
        id_lists: Not used.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: The train images are missing, or an image lacks its mask.
    """
    found = []
    for split in ("train", "val"):
        folder = root / "leftImg8bit" / split
        if split == "train" or folder.is_dir():
            images = require_files(folder, f"*/*{_IMAGE}", _IMAGE, LAYOUT)
            masks = MaskFiles(root / "gtFine" / split, f"*/*{_MASK}", _MASK)
            found += pair_masks(split, images, masks, findings)
    return found
