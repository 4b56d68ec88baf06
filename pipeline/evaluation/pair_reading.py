"""The pixels of a prediction and its mask: values to class ids, and both in the part and resolution that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.classes import ClassList
from pipeline.data.frames import Frame, frame_size, mask_to_frame
from pipeline.data.mask_ids import UNKNOWN
from pipeline.errors import InputError
from pipeline.evaluation.pairs import Pair, read_colours, read_labels

_IDS_NAMED = 10


@dataclass
class PairReader:
    """Reads pairs of label maps and masks.

    Attributes:
        classes: What the masks hold.
        frame: The part and the resolution that are scored; None: the masks as they are stored.
        resize: Whether predictions of other sizes are resized by nearest neighbour.
        resized: How many were.
    """

    classes: ClassList
    frame: Frame | None = None
    resize: bool = False
    resized: int = 0
    _whole: tuple[Path, np.ndarray] | None = field(default=None, repr=False)  # read last, for its next tile

    def read(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Read one pair.

        A prediction has the size of the mask, and is cut as the mask is, or the size of the frame. Of another size it
        is resized if that is wanted: a square one to a square frame, any other to the mask.

        Returns:
            Class ids and `ignore_index`, uint8 (h, w); cluster ids, uint8 or uint16 (h, w).

        Raises:
            InputError: A file is unusable, holds values outside the class table, or is of another size.
        """
        mask, labels = self.read_mask(pair), read_labels(pair.prediction)
        if self.frame is None:
            return mask, self._fit(labels, mask.shape, pair, mask.shape)
        framed = frame_size(mask.shape[1], mask.shape[0], self.frame)
        if labels.shape not in (mask.shape, framed):
            to_frame = framed[0] * labels.shape[1] == framed[1] * labels.shape[0]
            labels = self._fit(labels, framed if to_frame else mask.shape, pair, mask.shape)
        if labels.shape != framed:
            labels = mask_to_frame(labels, self.frame)
        return mask_to_frame(mask, self.frame), labels

    def read_mask(self, pair: Pair) -> np.ndarray:
        """The class ids of a mask or its tile before it is framed, uint8 (h, w)."""
        values = self._read_values(pair)
        table, classes = self.classes.mask_ids, len(self.classes.names)
        if table is None:
            ids = np.flatnonzero(np.bincount(values.ravel()))
            unknown = ids[(ids >= classes) & (ids != self.classes.ignore_index)]
            if unknown.size:
                raise InputError(
                    f"{pair.mask}: ids {_name(unknown.tolist())} are not among the {classes} classes, and ignore_index "
                    f"is {self.classes.ignore_index}; add them to the class list, or correct the mask"
                )
            return values.astype(np.uint8)
        # values that do not occur need no look-up of every pixel
        narrow = values.dtype == np.uint8
        mask = table.translate(np.arange(256))[values] if narrow else table.translate(values)
        if (unknown := np.unique(values[mask == UNKNOWN])).size:
            shown = [f"#{value:06x}" if table.colours else str(value) for value in unknown.tolist()]
            where = f"of protocol {self.classes.protocol}" if self.classes.protocol else "mask_ids of classes.json"
            raise InputError(
                f"{pair.mask}: values {_name(shown)} are not in the table {where}; check that the mask is the one of "
                "the download, or correct the table"
            )
        return mask.astype(np.uint8)

    def _read_values(self, pair: Pair) -> np.ndarray:
        """What a mask or its tile holds; of colours the packed number."""
        if self._whole is None or self._whole[0] != pair.mask:
            colours = self.classes.mask_ids is not None and self.classes.mask_ids.colours
            self._whole = pair.mask, read_colours(pair.mask) if colours else read_labels(pair.mask)
        return self._whole[1] if pair.window is None else self._whole[1][pair.window]

    def _fit(self, labels: np.ndarray, size: tuple[int, ...], pair: Pair, mask_size: tuple[int, ...]) -> np.ndarray:
        if labels.shape == size:
            return labels
        if not self.resize:
            framed = ""
            if self.frame:
                framed = f" and the protocol scores {_shown(frame_size(mask_size[1], mask_size[0], self.frame))}"
            raise InputError(
                f"{pair.prediction}: is {_shown(labels.shape)}, but its mask {pair.mask} is {_shown(mask_size)}{framed}"
                "; predict at such a size, or give --resize to resize predictions by nearest neighbour"
            )
        self.resized += 1
        return resize_nearest(labels, size)


def resize_nearest(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize ids (h, w) by nearest neighbour to a size (H, W)."""
    # the pixel at the centre of each new one, in whole numbers
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    return labels[rows[:, None], columns]


def _name(values: Sequence[int | str]) -> str:
    return ", ".join(map(str, values[:_IDS_NAMED])) + (" and more" if len(values) > _IDS_NAMED else "")


def _shown(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
