"""A published protocol: its classes, and which values in the masks of the download mean which of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """The classes of a protocol.

    Attributes:
        name: As in `data.protocol`.
        classes: Names of the classes, in the order of their ids.
        kinds: "thing" or "stuff" for each, or None.
        mask_ids: What the masks hold, a number or a colour "#rrggbb", to the id of a class, or None for ignored. Any
            other value is unknown, see `evaluate.unknown_ids`.
        note: Where the table is from, and how it departs from what is usual.
    """

    name: str
    classes: tuple[str, ...]
    kinds: tuple[str, ...] | None
    mask_ids: Mapping[int | str, int | None]
    note: str = ""

    def classes_text(self) -> str:
        """The protocol as the text of a `classes.json`."""
        kinds = self.kinds or ()
        entries = [
            {"id": i, "name": name} | ({"kind": kinds[i]} if kinds else {}) for i, name in enumerate(self.classes)
        ]
        content = {
            "name": self.name,
            "protocol": self.name,
            "note": self.note,
            "ignore_index": 255,
            "classes": entries,
            "mask_ids": {str(value): target for value, target in self.mask_ids.items()},
        }
        return json.dumps(content, indent=1) + "\n"


def number_classes(first: int, count: int, ignored: tuple[int, ...]) -> dict[int | str, int | None]:
    """The table of masks whose classes are numbered from `first` on, beside ignored values."""
    table: dict[int | str, int | None] = dict.fromkeys(ignored)
    return table | {first + i: i for i in range(count)}
