"""Windows into large images, and how a path names one."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FRAGMENT = re.compile(r"#xywh=(\d+),(\d+),(\d+),(\d+)$")


@dataclass(frozen=True, slots=True)
class Window:
    """A tile of a large image.

    Attributes:
        x, y: Its upper left corner in pixels of the image.
        width, height: Its size in pixels.
        whole: Width and height of the whole image.
    """

    x: int
    y: int
    width: int
    height: int
    whole: tuple[int, int]


def mark_window(path: str, window: Window | None) -> str:
    """The path of a mask and its tile, as a media fragment of the W3C, such as `a.tif#xywh=0,400,400,400`."""
    if window is None:
        return path
    return f"{path}#xywh={window.x},{window.y},{window.width},{window.height}"


def split_window(marked: str) -> tuple[str, tuple[slice, slice] | None]:
    """Undo `mark_window`.

    Returns:
        The path, and rows and columns of the tile, None for the whole.
    """
    found = _FRAGMENT.search(marked)
    if not found:
        return marked, None
    x, y, width, height = map(int, found.groups())
    return marked[: found.start()], (slice(y, y + height), slice(x, x + width))
