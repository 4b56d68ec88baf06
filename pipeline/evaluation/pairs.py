"""Label PNGs of any origin: which prediction belongs to which mask, and the ids in them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pipeline.data.images import FORMATS
from pipeline.data.mask_ids import pack_colours
from pipeline.errors import InputError
from pipeline.evaluation.official import OfficialMask, OfficialTruth, shorten_name
from pipeline.runtime.logs import get_logger

_START = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR = 24, 25  # bytes of the header
_GREY, _PALETTE = 0, 3
_MOST_PIXELS = 2**28
_COLOURS = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}

log = get_logger("score")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prediction and the mask that it is scored against, or a tile of that."""

    prediction: Path
    mask: Path
    window: tuple[slice, slice] | None = None


def pair_folders(predictions: Path, truth: Path) -> list[Pair]:
    """Pair PNG files by their path below the two folders, without the ending.

    Hidden files are skipped, and links to folders are not followed. A prediction without a mask is not scored, which a
    warning tells.

    Args:
        predictions: Folder of label maps.
        truth: Folder of masks.

    Returns:
        The pairs in the order of their names.

    Raises:
        InputError: A folder or its PNG files are missing, two files claim one name, no prediction fits a mask, or a
            mask has no prediction, since leaving images out would change what is scored.
    """
    found, masks = _list(predictions), _list(truth)
    if not found.keys() & masks.keys():
        raise InputError(
            f"no pairs: no prediction has the name of a mask; {predictions} holds {min(found)!r}, {truth} holds "
            f"{min(masks)!r} (without .png); give a prediction the relative path of its mask"
        )
    if missing := sorted(masks.keys() - found.keys()):
        raise InputError(
            f"{masks[missing[0]]}: has no prediction {predictions / missing[0]}.png ({len(missing)} of {len(masks)} "
            "masks have none); predict every image, or score against a folder of the masks you mean"
        )
    _warn_of_surplus([found[name] for name in sorted(found.keys() - masks.keys())])
    return [Pair(found[name], masks[name]) for name in sorted(masks)]


def pair_official(predictions: Path, masks: Sequence[OfficialMask], official: OfficialTruth) -> list[Pair]:
    """Pair PNG files with the masks of a download.

    A prediction is called as its mask below the folder of the split, with or without the split before it, or, unless
    masks are cut into tiles, by the last part of that alone; endings that only images or masks have may be there.

    Args:
        predictions: Folder of label maps.
        masks: What is scored.
        official: Where the masks come from.

    Returns:
        The pairs in the order of the masks.

    Raises:
        InputError: The folder is missing or holds no PNG files, two files claim one mask, or a mask has no prediction.
    """
    found: dict[str, Path] = {}
    for name, path in _list(predictions).items():
        if (other := found.setdefault(shorten_name(name, official), path)) != path:
            raise InputError(f"{path}: differs from {other} only in its ending; remove one of them")
    pairs, missing = [], []
    for mask in masks:
        names = [mask.name, f"{mask.split}/{mask.name}"]
        names += [] if mask.window else [PurePosixPath(mask.name).name]
        present = dict.fromkeys(name for name in names if name in found)
        if len(present) > 1:
            one, other = (found[name] for name in list(present)[:2])
            raise InputError(f"{other}: is a prediction of {mask.path} as {one} is; remove one of them")
        if present:
            pairs.append(Pair(found[next(iter(present))], mask.path, mask.window))
        else:
            missing.append(mask)
    if missing:
        raise InputError(
            f"{missing[0].path}: has no prediction {predictions / missing[0].name}.png ({len(missing)} of {len(masks)} "
            f"masks have none); {predictions} holds {min(found)!r} (without .png); predict every image, or name those "
            "that you mean with --ids"
        )
    used = {pair.prediction for pair in pairs}
    _warn_of_surplus([path for path in found.values() if path not in used])
    return pairs


def read_colours(path: Path) -> np.ndarray:
    """Read a mask of colours as numbers.

    Args:
        path: a picture in RGB of any format.

    Returns:
        int32 (h, w): red * 65536 + green * 256 + blue.

    Raises:
        InputError: The file cannot be read, or is another kind of image.
    """
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS  # Pillow refuses twice as many undecoded
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode != "RGB":
                raise InputError(f"{path}: is of mode {image.mode}, but the class table is of colours; save it as RGB")
            return pack_colours(np.array(image))
    except InputError:
        raise
    except Exception as error:  # damaged files make Pillow raise nearly every kind of exception
        raise InputError(f"{path}: cannot be read as a picture ({error}); download or save it again") from None


def read_labels(path: Path) -> np.ndarray:
    """Read the ids of a PNG as they are stored; of a palette its indices.

    Args:
        path: a PNG of one channel: palette, or grey of 1, 8 or 16 bits.

    Returns:
        uint8 or uint16 (h, w).

    Raises:
        InputError: The file cannot be read, or is another kind of image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if len(data) <= _COLOUR or not data.startswith(_START):
        raise InputError(f"{path}: not a PNG file; save label maps as PNG of ids")
    depth, colour = data[_DEPTH], data[_COLOUR]
    # Pillow stretches grey of 2 and 4 bits to 0..255
    if colour != _PALETTE and (colour != _GREY or depth in (2, 4)):
        shown = _COLOURS.get(colour, f"grey of {depth} bits")
        raise InputError(f"{path}: is {shown}; save ids, not colours, with one channel (8- or 16-bit grey, or palette)")
    width, height = struct.unpack(">II", data[16:24])
    if width * height > _MOST_PIXELS:
        raise InputError(f"{path}: is {width} x {height}, more than {_MOST_PIXELS} pixels; score tiles of it")
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            labels = np.array(image)
    except Exception as error:  # damaged files make Pillow raise nearly every kind of exception
        raise InputError(f"{path}: cannot be decoded ({error}); save it again") from None
    return labels.astype(np.uint16 if depth == 16 else np.uint8)


def _warn_of_surplus(paths: Sequence[Path]) -> None:
    if paths:
        log.warning("%d predictions have no mask and are not scored, such as %s", len(paths), paths[0])


def _list(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {problem}; give a folder of PNG files")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if relative.suffix.lower() != ".png" or any(part.startswith(".") for part in relative.parts):
            continue
        if (other := found.setdefault(str(relative.with_suffix("")), path)) != path:
            raise InputError(f"{path}: differs from {other} only in its ending; remove one of them")
    if not found:
        raise InputError(f"{folder}: holds no PNG files; give a folder of label maps saved as PNG")
    return found
