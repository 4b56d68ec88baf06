"""What a source gives: image files with their splits and masks, found by name alone; nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.windows import Window
from pipeline.errors import InputError
from pipeline.runtime.logs import get_logger

log = get_logger("data")


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image file that was found, not yet opened.

    Attributes:
        image_id: POSIX path that starts with the split, such as "train/a.jpg"; files of `images_unlabelled/` of an
            input folder start with "unlabelled/", those of a flat folder with nothing.
        split: `train`, `val`…
        path: The file.
        mask_path: Its mask, or None.
        window: The tile of file and mask that is meant; None for the whole.
    """

    image_id: str
    split: str
    path: Path
    mask_path: Path | None
    window: Window | None = None


@dataclass(frozen=True)
class MaskFiles:
    """Where the masks of a split are.

    Attributes:
        folder: The folder, which may be missing.
        pattern: What `Path.glob` takes from there, such as "*.png".
        ending: What is cut off to get the key of the mask's image.
        shared: Whether masks of other images are there too.
    """

    folder: Path
    pattern: str
    ending: str
    shared: bool = False


@dataclass
class Findings:
    """What is wrong with a download, for who wants all of it rather than the first error.

    Attributes:
        problems: What has to be mended, a line each.
        notes: What may be as it should.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def first_folder(root: Path, *names: str) -> Path | None:
    """The first of several folders below another that exists, or None."""
    return next((root / name for name in names if (root / name).is_dir()), None)


def find_files(folder: Path, pattern: str, ending: str) -> dict[str, Path]:
    """Files of a folder by their relative POSIX path without its ending.

    Args:
        folder: Where to look; a missing folder has no files.
        pattern: What `Path.glob` takes, such as "*.jpg"; hidden files are skipped.
        ending: What is cut off to get the key, such as "_leftImg8bit.png".
    """
    found = {}
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else ():
        if not path.name.startswith("."):
            found[path.relative_to(folder).as_posix().removesuffix(ending)] = path
    return found


def require_files(folder: Path, pattern: str, ending: str, layout: str) -> dict[str, Path]:
    """The files of `find_files`, of which there must be some.

    Args:
        folder: See `find_files`, as `pattern` and `ending`.
        pattern: See there.
        ending: See there.
        layout: What the download looks like, for the message.

    Raises:
        InputError: The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; data.root must hold the download as it is: {layout}")
    if found := find_files(folder, pattern, ending):
        return found
    raise InputError(f"{folder}: holds no {pattern}; data.root must hold the download as it is: {layout}")


def pair_masks(
    split: str, images: Mapping[str, Path], place: MaskFiles, findings: Findings | None = None
) -> list[SourceImage]:
    """Give each image of a split the mask of the same key.

    Args:
        split: The split's name.
        images: Image files by key.
        place: Where the masks are. With none at all the split is unlabelled; those without an image are not used. Both
            is logged.
        findings: Gets what is wrong, in place of error and log; images without a mask then stay without.

    Returns:
        The images, in the order of their keys; their ids are the split, the key and the file's suffix.

    Raises:
        InputError: Some images have a mask, others not.
    """
    files = find_files(place.folder, place.pattern, place.ending)
    masks = {key: path for key, path in files.items() if key in images} if place.shared else files
    notes: list[str] = []
    if missing := sorted(images.keys() - masks.keys()) if masks else []:
        problem = (
            f"{images[missing[0]]}: has no mask, as {len(missing)} of the {len(images)} images of split {split}, while "
            f"others have one, such as {min(masks.values())}; complete the masks, or remove these images"
        )
        if findings is None:
            raise InputError(problem)
        findings.problems.append(problem)
    if not masks:
        found = f"holds no {place.pattern}" if place.folder.is_dir() else "is missing"
        text = f"split {split}: no masks were found, so it cannot be scored; {place.folder} {found}"
        if files:
            text += " of its images"
        # a folder of masks without one is a mistake, but masks may be left out, or published for some splits only
        if findings is not None and place.folder.is_dir() and not files:
            findings.problems.append(text)
        else:
            notes.append(text)
    if orphans := sorted(masks.keys() - images.keys()):
        notes.append(f"split {split}: {len(orphans)} masks have no image, such as {masks[orphans[0]]}")
    if findings is None:
        for note in notes:
            log.warning("%s", note)
    else:
        findings.notes += notes
    return [SourceImage(f"{split}/{key}{images[key].suffix}", split, images[key], masks.get(key)) for key in images]


def read_ids(path: Path) -> list[str]:
    """Read a list of ids, one a line; blank lines are skipped.

    Raises:
        InputError: The file is missing, no text, empty, or names an id twice.
    """
    try:
        ids = path.read_text("utf-8-sig").split()
    except OSError as error:
        raise InputError(
            f"{path}: the list of ids cannot be read ({error.strerror}); give the published list"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: the list of ids is not UTF-8 text; give one id a line") from None
    if not ids:
        raise InputError(f"{path}: the list of ids is empty; give one id a line")
    if len(set(ids)) < len(ids):
        twice = next(name for position, name in enumerate(ids) if name in ids[:position])
        raise InputError(f"{path}: the id {twice} stands there twice; name each image once")
    return ids


def select_ids(files: Mapping[str, Path], ids: list[str], source: Path) -> dict[str, Path]:
    """The files that a list names.

    Args:
        files: Image files by id.
        ids: The ids to keep.
        source: The list's file, for the message.

    Raises:
        InputError: An id has no file.
    """
    if absent := [name for name in ids if name not in files]:
        raise InputError(
            f"{source}: {len(absent)} of {len(ids)} ids have no image, such as {absent[0]!r}; complete the images, or "
            "give the list of this data set"
        )
    return {name: files[name] for name in sorted(ids)}
