"""ISPRS Potsdam: aerial images of 6000 x 6000 pixels, cut into tiles; the masks are colour pictures."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.data.sources.listing import Findings, MaskFiles, SourceImage, pair_masks, require_files
from pipeline.data.sources.protocol import Protocol
from pipeline.errors import InputError

LAYOUT = "2_Ortho_RGB/top_potsdam_*_RGB.tif, 5_Labels_all/top_potsdam_*_label.tif"
TILE = 400  # pixels; IIC (Ji et al. 2019) cuts 200 after halving, which shows the same ground
# the benchmark's own division; the other 14 images are its test set, whose labels were published later
_TRAIN = (
    "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12"
)

POTSDAM_3 = Protocol(
    name="potsdam-3",
    classes=("road and car", "building and clutter", "vegetation and tree"),
    kinds=None,
    mask_ids={
        "#ffffff": 0,  # impervious surface
        "#0000ff": 1,  # building
        "#00ffff": 2,  # low vegetation
        "#00ff00": 2,  # tree
        "#ffff00": 0,  # car
        "#ff0000": 1,  # clutter
    },
    note="coarse classes of IIC; train and val are the benchmark's train and test images, not IIC's own lists",
)


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: images, or annotations in one of their variants."""
    return (root / "2_Ortho_RGB").is_dir() or mask_folder(root) is not None


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return next((place for place in sorted(root.glob("5_Labels*")) if place.is_dir()), None)


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List all images with their masks.

    Args:
        root: The folder that holds `2_Ortho_RGB` and `5_Labels_all`.
        id_lists: Not used.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: Images are missing, have no mask, or are named otherwise.
    """
    images = require_files(root / "2_Ortho_RGB", "*_RGB.tif", "_RGB.tif", LAYOUT)
    masks = MaskFiles(root / "5_Labels_all", "*_label.tif", "_label.tif", shared=True)
    found = []
    for split in ("train", "val"):
        named = {key: path for key, path in images.items() if split_of(path) == split}
        if named:
            found += pair_masks(split, named, masks, findings)
    return found


def split_of(path: Path) -> str:
    """The split of an image or mask, `train` or `val`, by its number.

    Raises:
        InputError: The file is named otherwise.
    """
    numbers = re.search(r"top_potsdam_(\d+_\d+)_(RGB|label)\.tif$", path.name)
    if not numbers:
        raise InputError(
            f"{path}: not named top_potsdam_ROW_COLUMN_RGB.tif, so its split is unknown; rename or remove it"
        )
    return "train" if numbers[1] in _TRAIN.split() else "val"
