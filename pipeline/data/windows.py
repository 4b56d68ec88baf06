"""Windows into large images, and how a path names one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_BOX = r"=(\d+),(\d+),(\d+),(\d+)"
_FRAGMENT = re.compile(f"#xywh{_BOX}(?:&own{_BOX})?$")

Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True, slots=True)
class Window:
    """A tile of a large image.

    Attributes:
        x, y: Its upper left corner in pixels of the image.
        width, height: Its size in pixels.
        whole: Width and height of the whole image.
        own: The part of the image that is scored in this tile and in no other; None: all of the tile.
    """

    x: int
    y: int
    width: int
    height: int
    whole: tuple[int, int]
    own: Box | None = None


class Part(NamedTuple):
    """What `mark_window` wrote of a tile.

    Attributes:
        rows: Of the whole mask; likewise `columns`.
        columns: See `rows`.
        own: Rows and columns of the tile that it alone is scored on; None: all.
    """

    rows: slice
    columns: slice
    own: tuple[slice, slice] | None

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """The tile of a whole mask (H, W)."""
        return mask[self.rows, self.columns]

    def hide_foreign(self, mask: np.ndarray, ignore_index: int) -> None:
        """Set to `ignore_index` in place what other tiles are scored on, in a mask of this tile."""
        if self.own:
            foreign = np.ones(mask.shape, bool)
            foreign[self.own] = False
            mask[foreign] = ignore_index


def mark_window(path: str, window: Window | None) -> str:
    """The path of a mask and its tile, as a media fragment of the W3C, such as `a.tif#xywh=0,400,400,400`.

    What the tile is scored on, if not all of it, follows likewise as `&own=`.
    """
    if window is None:
        return path
    own = "" if window.own is None else "&own={},{},{},{}".format(*window.own)
    return f"{path}#xywh={window.x},{window.y},{window.width},{window.height}{own}"


def split_window(marked: str) -> tuple[str, Part | None]:
    """Undo `mark_window`.

    Returns:
        The path, and the tile, None for the whole.
    """
    found = _FRAGMENT.search(marked)
    if not found:
        return marked, None
    x, y, width, height = map(int, found.groups()[:4])
    own = None
    if found[5]:
        left, top, across, down = map(int, found.groups()[4:])
        own = slice(top - y, top - y + down), slice(left - x, left - x + across)
    return marked[: found.start()], Part(slice(y, y + height), slice(x, x + width), own)
