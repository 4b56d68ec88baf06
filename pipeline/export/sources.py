"""The image files that a command line means, and the name of each one's results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.images import SUFFIXES
from pipeline.errors import InputError


@dataclass(frozen=True)
class ImageFile:
    """An image to be segmented.

    Attributes:
        path: The file.
        shown: Its path below the folder that all images share, as text for tables.
        name: Relative POSIX path of its results, without their ending; no two files have the same.
    """

    path: Path
    shown: str
    name: str


def list_images(arguments: Sequence[str], out: Path) -> list[ImageFile]:
    """Find the images of folders, glob patterns and single files.

    Args:
        arguments: Of the command line. Folders are searched to the bottom, but for hidden files.
        out: Where results go; what lies there is no image to segment.

    Returns:
        Each file once, in the order of the arguments, those of a folder sorted.

    Raises:
        InputError: An argument names nothing, or no image was found.
    """
    results = _absolute(out)
    paths: dict[Path, None] = {}
    roots: list[Path] = []
    for argument in arguments:
        for place in _expand(argument):
            found = [path for path in _files_of(place) if results not in path.parents]
            paths |= dict.fromkeys(found)
            roots += [_absolute(place) if place.is_dir() else path.parent for path in found[:1]]
    if not paths:
        raise InputError(f"{' '.join(arguments)}: no images here ({', '.join(SUFFIXES)})")
    common = os.path.commonpath(roots)
    shown = [_as_text(path.relative_to(common)) for path in paths]
    return [ImageFile(path, text, name) for path, text, name in zip(paths, shown, name_results(shown), strict=True)]


def name_results(shown: Sequence[str]) -> list[str]:
    """Give every image a name of its own: its path without the ending, or with it, or with a number.

    Args:
        shown: Relative POSIX paths.

    Returns:
        Names that differ also where upper and lower case do not; none with ".png" is a folder of another.
    """
    folders = {str(folder).casefold() for path in shown for folder in PurePosixPath(path).parents}
    taken: set[str] = set()
    names = []
    for path in shown:
        for name in _candidates(path):
            key = name.casefold()
            if key not in taken and f"{key}.png" not in folders:
                break
        taken.add(key)
        names.append(name)
    return names


def _candidates(path: str) -> Iterator[str]:
    yield PurePosixPath(path).with_suffix("").as_posix()
    yield path
    number = 2
    while True:
        yield f"{path}-{number}"
        number += 1


def _expand(argument: str) -> list[Path]:
    place = Path(argument)
    if place.exists():
        return [place]
    if not any(sign in argument for sign in "*?["):
        raise InputError(f"{argument}: does not exist; give images, folders or patterns in quotes")
    places = sorted(Path(place.anchor or ".").glob(str(place.relative_to(place.anchor))))
    if not places:
        raise InputError(f"{argument}: no file matches this pattern")
    return places


def _files_of(place: Path) -> list[Path]:
    if not place.is_dir():
        return [_absolute(place)]
    return sorted(
        _absolute(path)
        for path in place.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    )


def _absolute(path: Path) -> Path:
    """Without `..`; links are not followed, so that a result's name comes from the path as given."""
    return Path(os.path.normpath(path.absolute()))


def _as_text(path: Path) -> str:
    """File names may hold bytes that are no text; tables may not."""
    return path.as_posix().encode("utf-8", "replace").decode()
