"""Where commands may write besides the outputs of the stages."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError, ParamsError
from pipeline.runtime.artifacts import MANIFEST


def refuse_finished_output(place: Path, option: str) -> None:
    """Refuse a place below a finished output, which would no longer be what its manifest says.

    Args:
        place: A file or folder that is about to be written.
        option: The option that named it, for the message.

    Raises:
        InputError: One of the folders around it has a manifest.
    """
    inside = next((folder for folder in place.resolve().parents if (folder / MANIFEST).is_file()), None)
    if inside:
        raise InputError(f"{option} {place}: lies in the finished output {inside}; choose a place outside of it")


def check_page(place: Path, option: str) -> None:
    """Refuse a place for a page that would replace something else.

    Args:
        place: The HTML file that is about to be written.
        option: The option that named it, for the message.

    Raises:
        ParamsError: It does not end in .html.
        InputError: It lies in a finished output, or is a folder.
    """
    if place.suffix != ".html":
        raise ParamsError(f"{option} {place}: is no name of a page; let it end in .html")
    if place.is_dir():
        raise InputError(f"{option} {place}: is a folder; name a file in it")
    refuse_finished_output(place, option)
