"""Finds the images and masks of an input folder.

Two layouts: `images/<split>/**` with optional `masks/<split>/**.png`, `classes.json` and `images_unlabelled/**`; or a
flat folder, whose images are all for training. Nothing is decoded here.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.data.images import SUFFIXES
from pipeline.data.sources.listing import SourceImage
from pipeline.errors import InputError
from pipeline.runtime.logs import get_logger

log = get_logger("data")


def list_folder(root: Path) -> list[SourceImage]:
    """List the images of an input folder with their masks.

    A mask has its image's relative path with the suffix `.png`. Hidden files are skipped. Links are followed, but
    one that leads back to a folder above it is skipped with a warning. Masks without an image are counted in a
    warning.

    Args:
        root: The folder.

    Returns:
        The images sorted by id, whatever the order in which the file system lists them.

    Raises:
        InputError: There is no image; two ids differ only by case or Unicode form; two files claim one mask; a name
            is not valid UTF-8 or holds control characters.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"data.root: {root} {problem}; give a folder of images")
    images, unlabelled = root / "images", root / "images_unlabelled"
    layout = images.is_dir() or unlabelled.is_dir()
    if not layout and (masks := [path for path in root.iterdir() if path.name.lower() == "masks"]):
        raise InputError(
            f"{masks[0]}: masks without a folder {images}; put the images into images/train, so that masks are not "
            "taken for images"
        )
    places = [(images, ""), (unlabelled, "unlabelled/")] if layout else [(root, "")]
    found: list[SourceImage] = []
    others: list[Path] = []
    for folder, prefix in places:
        for path in _walk(folder) if folder.is_dir() else ():
            if path.suffix.lower() not in SUFFIXES:
                others.append(path)
                continue
            relative = path.relative_to(folder)
            has_split = folder == images and len(relative.parts) > 1
            split = relative.parts[0] if has_split else "train"
            found.append(SourceImage(_checked_id(prefix + relative.as_posix(), path), split, path, None))
    if not found:
        raise InputError(_no_images(root, layout, others))
    found.sort(key=lambda image: image.image_id)
    _refuse_lookalikes(found)
    return _with_masks(found, root / "masks") if layout else found


def has_layout(root: Path) -> bool:
    """Whether a folder has the layout with splits beyond doubt, as downloads have `images` too.

    It holds `images_unlabelled`, or `images` and one of `images/train`, `masks` and `classes.json`.
    """
    images = root / "images"
    marked = (root / "masks").is_dir() or (root / "classes.json").is_file() or (images / "train").is_dir()
    return (images.is_dir() and marked) or (root / "images_unlabelled").is_dir()


def _walk(root: Path) -> Iterator[Path]:
    """All files that are not hidden, through links too; a dangling link counts as a file."""
    above = [_identity(folder) for folder in (root.resolve(), *root.resolve().parents)]
    waiting = [(root, frozenset(above))]
    while waiting:
        folder, ancestors = waiting.pop()
        try:
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise InputError(f"{folder}: cannot be listed ({error.strerror}); make it readable or remove it") from None
        for path in entries:
            try:
                mode = path.stat().st_mode
            except OSError:  # dangling or circular link: it is a file that turns out unreadable
                yield path
                continue
            if stat.S_ISREG(mode):
                yield path
            elif stat.S_ISDIR(mode):
                identity = _identity(path)
                if identity in ancestors:
                    log.warning("%s: skipped, this link leads back to a folder above it", path)
                else:
                    waiting.append((path, ancestors | {identity}))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _checked_id(image_id: str, path: Path) -> str:
    try:
        image_id.encode()
    except UnicodeEncodeError:
        raise InputError(f"{os.fsencode(path)!r}: the name is not valid UTF-8; rename the file") from None
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in image_id):
        raise InputError(f"{str(path)!r}: the name holds a line break or another control character; rename the file")
    return image_id


def _refuse_lookalikes(images: list[SourceImage]) -> None:
    seen: dict[str, SourceImage] = {}
    for image in images:
        key = unicodedata.normalize("NFC", image.image_id).casefold()
        other = seen.setdefault(key, image)
        if other is not image:
            raise InputError(
                f"{image.path}: its id {image.image_id!r} differs at most by case or Unicode form from that of "
                f"{other.path}, and some file systems take both for one; rename one of them"
            )


def _with_masks(images: list[SourceImage], folder: Path) -> list[SourceImage]:
    masks: dict[str, Path] = {}
    others = 0
    for path in sorted(_walk(folder)) if folder.is_dir() else ():
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if relative.suffix.lower() != ".png":
            others += 1
        elif (other := masks.setdefault(str(relative.with_suffix("")), path)) != path:
            raise InputError(f"{path}: {other} is a mask of the same image; remove one of them")
    if others:
        log.warning("%s: %d files are not .png and were not taken for masks", folder, others)
    claims: dict[str, list[SourceImage]] = defaultdict(list)
    for image in images:
        if not image.path.is_relative_to(folder.with_name("images_unlabelled")):
            claims[str(PurePosixPath(image.image_id).with_suffix(""))].append(image)
    owners: dict[str, Path] = {}
    for key in masks.keys() & claims.keys():
        if len(claims[key]) > 1:
            names = " and ".join(str(image.path) for image in claims[key])
            raise InputError(f"{masks[key]}: both {names} claim this mask; rename or remove one of the images")
        owners[claims[key][0].image_id] = masks[key]
    if orphans := sorted(masks.keys() - claims.keys()):
        log.warning(
            "%s: %d masks have no image, such as %s; they are not used", folder, len(orphans), masks[orphans[0]]
        )
    return [SourceImage(image.image_id, image.split, image.path, owners.get(image.image_id)) for image in images]


def _no_images(root: Path, layout: bool, others: list[Path]) -> str:
    looked = "images/<split>/ and images_unlabelled/" if layout else "the folder and its sub-folders"
    seen = f"{len(others)} other files were seen, such as {min(others).name!r}" if others else "no other files"
    return (
        f"data.root: {root} holds no images; looked in {looked} for {', '.join(SUFFIXES)} ({seen}); put images "
        "there or point data.root to another folder"
    )
