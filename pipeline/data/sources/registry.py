"""The sources by the name that `data.source` takes, with their protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.classes import parse_classes, state_ignored
from pipeline.data.sources import ade20k, camvid, cityscapes, coco_stuff, potsdam, voc2012
from pipeline.data.sources.folder import has_layout, list_folder
from pipeline.data.sources.listing import Findings, SourceImage
from pipeline.data.sources.protocol import Protocol
from pipeline.data.sources.tiles import lay_tiles
from pipeline.errors import InputError
from pipeline.params import DataParams


@dataclass(frozen=True)
class Source:
    """A data set that is read as it was downloaded.

    Attributes:
        layout: What the download looks like, in words.
        recognises: Whether a folder looks like it, be it a part.
        mask_folder: Where its annotations lie in a folder, or None.
        list_images: Its images, from the folder and `data.id_lists`; see any source.
        protocols: What `data.protocol` may be; the first is meant by `auto`.
        tile: Side in pixels of the tiles that its images are cut into unless `data.tile` says otherwise; 0: whole.
    """

    layout: str
    recognises: Callable[[Path], bool]
    mask_folder: Callable[[Path], Path | None]
    list_images: Callable[[Path, str, Findings | None], list[SourceImage]]
    protocols: tuple[Protocol, ...]
    tile: int = 0


SOURCES = {
    "coco-stuff": Source(
        coco_stuff.LAYOUT,
        coco_stuff.recognises,
        coco_stuff.mask_folder,
        coco_stuff.list_images,
        (coco_stuff.COCO_STUFF_27, coco_stuff.COCO_STUFF_15, coco_stuff.COCO_STUFF_3),
    ),
    "cityscapes": Source(
        cityscapes.LAYOUT,
        cityscapes.recognises,
        cityscapes.mask_folder,
        cityscapes.list_images,
        (cityscapes.CITYSCAPES_27,),
    ),
    "potsdam": Source(
        potsdam.LAYOUT, potsdam.recognises, potsdam.mask_folder, potsdam.list_images, (potsdam.POTSDAM_3,), potsdam.TILE
    ),
    "camvid": Source(camvid.LAYOUT, camvid.recognises, camvid.mask_folder, camvid.list_images, (camvid.CAMVID,)),
    "ade20k": Source(ade20k.LAYOUT, ade20k.recognises, ade20k.mask_folder, ade20k.list_images, (ade20k.ADE20K,)),
    "voc2012": Source(voc2012.LAYOUT, voc2012.recognises, voc2012.mask_folder, voc2012.list_images, (voc2012.VOC2012,)),
}
PROTOCOLS = {protocol.name: protocol for source in SOURCES.values() for protocol in source.protocols}


def recognise_source(root: Path) -> str:
    """The name of the source whose layout a folder has; `folder` if it is none of the published ones.

    A folder with `images` and `masks` of one's own is `folder`, whatever lies beside them.
    """
    if has_layout(root):
        return "folder"
    return next((name for name, source in SOURCES.items() if source.recognises(root)), "folder")


def list_source(
    params: DataParams, root: Path, findings: Findings | None = None
) -> tuple[list[SourceImage], str | None]:
    """The images of a source, cut into tiles where they are to be, and the text of its `classes.json` if there is one.

    Args:
        params: Group `data`.
        root: The folder to look in.
        findings: Gets images of a published source without a mask, and notes on splits without, in place of errors.

    Raises:
        InputError: The folder is not laid out as the source is; or the source is `folder`, and it is a published
            download with annotations.
    """
    if params.source not in SOURCES:
        _refuse_download(root)
        text = _read_classes(root / "classes.json")
        if text is not None:
            text = state_ignored(text, params.ignore_index, str(root / "classes.json"))
        return lay_tiles(list_folder(root), params), text
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"data.root: {root} {problem}; give the folder of the download")
    source = SOURCES[params.source]
    protocol = source.protocols[0] if params.protocol == "auto" else PROTOCOLS[params.protocol]
    images = source.list_images(root, params.id_lists, findings)
    return lay_tiles(images, params, source.tile), protocol.classes_text()


def _refuse_download(root: Path) -> None:
    """A folder of one's own keeps its masks elsewhere, so annotations would be taken for photos, or not be found."""
    name = recognise_source(root)
    if name in SOURCES and (masks := SOURCES[name].mask_folder(root)):
        raise InputError(
            f"data.root: {root} is laid out as {name}, and data.source=folder would not take the annotations in "
            f"{masks} for masks; set data.source={name}, or put images of your own into images/train and their masks "
            "into masks/train"
        )


def _read_classes(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); mend or remove it") from None
    parse_classes(text, str(path))  # better now than after hours of training
    return text
