"""The masks of official downloads, untouched, and what a published protocol does with them before it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.images import FORMATS
from pipeline.data.sources.listing import find_files, read_ids
from pipeline.data.sources.potsdam import TILE, split_of
from pipeline.data.sources.protocol import Protocol
from pipeline.data.sources.registry import PROTOCOLS
from pipeline.errors import InputError, ParamsError

_COARSE = Frame(320, "center", 320)  # of PiCIE, and of the presets
_CURATED = "the published figures rest on the 2175 ids of Coco164kFull_Stuff_Coarse_7.txt, see --ids"


@dataclass(frozen=True)
class OfficialTruth:
    """Where a download keeps its masks, and how they are scored.

    Attributes:
        places: By split, the folders below the download that may hold its masks; the first that exists counts.
        pattern: What `Path.glob` takes, from such a folder.
        ending: What is cut off a mask's path to get its name.
        prediction_endings: What else a prediction's name may end with, as the images of the download do.
        frame: The part and the resolution that are scored; None: the masks as they are stored.
        tile: Side in pixels of the tiles that large masks are cut into; 0: not cut.
        selects: Whether a mask belongs to a split, where one folder holds several.
        list_of_split: Where the list of a split's names is, from beside the folder of masks; "" where there is none.
        sets: Splits by other names that publications have for them.
        note: What else decides the figures.
    """

    places: Mapping[str, tuple[str, ...]]
    pattern: str = "*.png"
    ending: str = ".png"
    prediction_endings: tuple[str, ...] = ()
    frame: Frame | None = None
    tile: int = 0
    selects: Callable[[Path, str], bool] = lambda path, split: True
    list_of_split: str = ""
    sets: Mapping[str, str] | None = None
    note: str = ""


@dataclass(frozen=True)
class OfficialMask:
    """A mask of a download, or a tile of it.

    Attributes:
        name: What its prediction is called: the path below the split's folder without endings.
        split: `train`, `val`…
        path: The file.
        window: Rows and columns of the tile; None for the whole.
    """

    name: str
    split: str
    path: Path
    window: tuple[slice, slice] | None = None


def _coco(note: str = "") -> OfficialTruth:
    folders = ("stuffthingmaps/{}2017", "annotations/{}2017")
    places = {split: tuple(folder.format(split) for folder in folders) for split in ("train", "val")}
    return OfficialTruth(places, frame=_COARSE, note=note)


_BELOW_VOC = ("", "VOC2012/", "VOCdevkit/VOC2012/")
_BELOW_ADE = ("", "ADEChallengeData2016/")
OFFICIAL = {
    "coco-stuff-27": _coco(_CURATED),
    "coco-stuff-15": _coco(),
    "coco-stuff-3": _coco(),
    "cityscapes-27": OfficialTruth(
        {split: (f"gtFine/{split}", split) for split in ("train", "val")},
        pattern="*/*_gtFine_labelIds.png",
        ending="_gtFine_labelIds.png",
        prediction_endings=("_leftImg8bit", "_gtFine_labelIds"),
        frame=_COARSE,
        sets={"picie": "train+val"},
    ),
    "potsdam-3": OfficialTruth(
        dict.fromkeys(("train", "val"), ("5_Labels_all",)),
        pattern="*_label.tif",
        ending="_label.tif",
        prediction_endings=("_RGB", "_label"),
        frame=_COARSE,
        tile=TILE,
        selects=lambda path, split: split_of(path) == split,
        note="tiles and split of this project, not IIC's lists",
    ),
    "camvid-11": OfficialTruth({split: (f"{split}annot",) for split in ("train", "val", "test")}),
    "ade20k-150": OfficialTruth(
        {
            split: tuple(f"{below}annotations/{name}" for below in _BELOW_ADE)
            for split, name in (("train", "training"), ("val", "validation"))
        }
    ),
    "voc2012-21": OfficialTruth(
        {split: tuple(f"{below}SegmentationClass" for below in _BELOW_VOC) for split in ("train", "val")},
        list_of_split="ImageSets/Segmentation/{}.txt",
    ),
}
SHORT_NAMES = {"camvid": "camvid-11", "ade20k": "ade20k-150", "voc2012": "voc2012-21"}


def find_protocol(name: str) -> tuple[Protocol, OfficialTruth]:
    """Look a protocol up by its name, or by that of its data set where it has only one.

    Raises:
        ParamsError: There is none of that name.
    """
    name = SHORT_NAMES.get(name, name)
    if name not in OFFICIAL:
        raise ParamsError(f"--protocol: none is called {name!r}; the protocols are {', '.join(OFFICIAL)}")
    return PROTOCOLS[name], OFFICIAL[name]


def list_masks(truth: Path, official: OfficialTruth, split: str, ids: Path | None, *, cut: bool) -> list[OfficialMask]:
    """List the masks of one or more splits of a download; images need not be there.

    Args:
        truth: The folder of the download, or, for a single split, the folder of its masks itself.
        official: Where the masks are.
        split: A split, several joined by "+", or one of `official.sets`.
        ids: List of the names to score, one a line, without endings; None: all, or those of the download's own list.
        cut: Whether large masks are cut into tiles, if the protocol does so.

    Returns:
        The masks by split and name.

    Raises:
        ParamsError: The protocol has no such split.
        InputError: A folder, a list or a mask is missing.
    """
    splits = (official.sets or {}).get(split, split).split("+")
    if (unknown := set(splits) - official.places.keys()) or len(set(splits)) < len(splits):
        known = ", ".join([*official.places, *(official.sets or {})])
        problem = f"there is none called {min(unknown)!r}" if unknown else f"{split!r} names one twice"
        raise ParamsError(f"--split: {problem}; the splits of this protocol are {known}, or several as in train+val")
    found = []
    for name in splits:
        folder = _find_folder(truth, official, name, single=len(splits) == 1)
        masks = {
            key: path
            for key, path in find_files(folder, official.pattern, official.ending).items()
            if official.selects(path, name)
        }
        if not masks:
            raise InputError(f"{folder}: holds no mask {official.pattern} of split {name}; give the download as it is")
        if official.list_of_split and ids is None:
            masks = _select(masks, folder.parent / official.list_of_split.format(name))
        found += [OfficialMask(key, name, path) for key, path in masks.items()]
    if ids is not None:
        named = _select({mask.name: mask.path for mask in found}, ids)
        found = [mask for mask in found if mask.name in named]
    return _cut(found, official.tile) if cut and official.tile else found


def shorten_name(name: str, official: OfficialTruth) -> str:
    """The name of a prediction without what images or masks of the download end with."""
    path = PurePosixPath(name)
    # a tile is called after its place within the image
    stem, rest = (path.parent, f"/{path.name}") if official.tile and path.parent.name else (path, "")
    shortened = str(stem)
    for ending in official.prediction_endings:
        shortened = shortened.removesuffix(ending)
    return shortened + rest


def _find_folder(truth: Path, official: OfficialTruth, split: str, *, single: bool) -> Path:
    if not truth.is_dir():
        problem = "is not a folder" if truth.exists() else "does not exist"
        raise InputError(f"{truth}: {problem}; give the folder of the download, or that of its masks")
    places = official.places[split]
    for place in places:
        if (truth / place).is_dir():
            return truth / place
    other_splits = [name for name in official.places if name != split and _is_place(truth, official.places[name])]
    if _is_place(truth, places) or (single and not other_splits and any(truth.glob(official.pattern))):
        return truth
    if other_splits:
        raise InputError(f"{truth}: holds the masks of split {other_splits[0]}, but --split is {split}; change one")
    raise InputError(f"{truth}: has no folder {' or '.join(places)}; give the folder of the download as it is")


def _is_place(folder: Path, places: tuple[str, ...]) -> bool:
    """Whether a folder is called as one of these."""
    return folder.resolve().name in {PurePosixPath(place).name for place in places}


def _select(masks: Mapping[str, Path], source: Path) -> dict[str, Path]:
    ids = read_ids(source)
    if absent := [name for name in ids if name not in masks]:
        raise InputError(
            f"{source}: {len(absent)} of {len(ids)} names have no mask, such as {absent[0]!r}; complete the masks, or "
            "give the list of this split"
        )
    return {name: masks[name] for name in sorted(ids)}


def _cut(masks: list[OfficialMask], tile: int) -> list[OfficialMask]:
    tiles = []
    for mask in masks:
        try:
            with Image.open(mask.path, formats=FORMATS) as header:  # reads no pixels
                width, height = header.size
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{mask.path}: cannot be opened ({error}); download it again") from None
        if min(width, height) < tile:
            raise InputError(f"{mask.path}: {width} x {height} pixels are less than a tile of {tile}")
        for row in range(height // tile):
            for column in range(width // tile):
                window = (slice(row * tile, (row + 1) * tile), slice(column * tile, (column + 1) * tile))
                tiles.append(OfficialMask(f"{mask.name}/r{row:02d}c{column:02d}", mask.split, mask.path, window))
    return tiles
