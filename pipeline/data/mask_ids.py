"""From the values that masks hold to class ids: the table `mask_ids` of a `classes.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import InputError

UNKNOWN = -1
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_NUMBER = re.compile(r"0|[1-9]\d{0,4}")


@dataclass(frozen=True)
class MaskIds:
    """A table of mask values.

    Attributes:
        values: The values in ascending order; of colours, red * 65536 + green * 256 + blue.
        classes: The class id of each, or the ignored value.
        colours: Whether the masks are colour pictures.
    """

    values: tuple[int, ...]
    classes: tuple[int, ...]
    colours: bool

    def translate(self, mask: np.ndarray) -> np.ndarray:
        """Look the values of a mask up.

        Args:
            mask: Integers of any shape.

        Returns:
            int32 of the same shape: class ids, the ignored value, or `UNKNOWN`.
        """
        values = np.array(self.values, dtype=np.int64)
        places = np.minimum(np.searchsorted(values, mask), len(values) - 1)
        found = np.array(self.classes, dtype=np.int32)[places]
        return np.where(values[places] == mask, found, np.int32(UNKNOWN))


def parse_mask_ids(table: Any, classes: int, ignore_index: int, name: str) -> MaskIds | None:
    """Validate the table `mask_ids` of a `classes.json`.

    Args:
        table: `{"7": 0, "8": null, …}` or `{"#ff0000": 0, …}`: values of the masks, and their class ids or null for
            ignored; None if there is no table.
        classes: Number of classes C.
        ignore_index: The ignored value.
        name: What messages call the file.

    Returns:
        The table, or None.

    Raises:
        InputError: It is no such table.
    """
    if table is None:
        return None
    if not isinstance(table, dict) or not table:
        raise InputError(f'{name}: "mask_ids" must be an object from mask values to class ids, not {_shown(table)}')
    colours = all(_COLOUR.fullmatch(key) for key in table)
    if not colours and not all(_NUMBER.fullmatch(key) for key in table):
        wrong = next(key for key in table if not _NUMBER.fullmatch(key))
        raise InputError(
            f'{name}: "mask_ids" has the mask value {_shown(wrong)}; give whole numbers in 0..99999 such as "7", or '
            'for all of them colours such as "#ff0000"'
        )
    pairs = {}
    for key, target in table.items():
        whole = isinstance(target, int) and not isinstance(target, bool)
        if target is not None and not (whole and 0 <= target < classes):
            raise InputError(
                f'{name}: "mask_ids" gives {_shown(key)} the class {_shown(target)}; give an id in 0..{classes - 1}, '
                "or null to ignore it"
            )
        value = int(key[1:], 16) if colours else int(key)
        if value in pairs:
            raise InputError(f'{name}: "mask_ids" gives the colour {_shown(key)} twice; keep one')
        pairs[value] = ignore_index if target is None else target
    ordered = sorted(pairs)
    return MaskIds(tuple(ordered), tuple(pairs[value] for value in ordered), colours)


def pack_colours(mask: np.ndarray) -> np.ndarray:
    """Colours as numbers: uint8 (H, W, 3) to int32 (H, W), red * 65536 + green * 256 + blue."""
    wide = mask.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
