"""Reading masks: which split is scored, which classes there are, and the ground truth of one image."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.data.classes import ClassList, default_classes, parse_classes
from pipeline.data.frames import Frame, mask_to_frame
from pipeline.data.images import FORMATS
from pipeline.data.manifest import ImageTable, TruthRow, TruthTable
from pipeline.data.mask_ids import UNKNOWN, pack_colours
from pipeline.data.windows import split_window
from pipeline.errors import InputError, ParamsError


class GroundTruth:
    """The masks of a data set, decoded one at a time.

    Attributes:
        classes: The classes; without a `classes.json`, one for each value that occurs in any mask.
        split: The split that is scored; several are joined by "+".
        splits: The same, apart.
    """

    def __init__(
        self, table: ImageTable, truth: TruthTable, split: str, unknown_ids: Literal["ignore", "error"]
    ) -> None:
        self._rows = {row.image_id: row for row in truth.rows}
        self._frame: Frame = table.frame
        self._max_pixels = table.max_pixels
        self._unknown_ids = unknown_ids
        self._whole: tuple[str, np.ndarray] | None = None  # the large mask that was read last, for its next tile
        self.split = split
        self.splits = tuple(split.split("+"))
        if truth.classes_text is not None:
            self.classes: ClassList = parse_classes(truth.classes_text, "classes.json")
        else:
            self.classes = default_classes(self._values(), truth.ignore_index)

    @property
    def tiled(self) -> bool:
        """Whether images are tiles of larger ones."""
        return any(split_window(row.mask_path)[1] for row in self._rows.values())

    def has(self, image_id: str) -> bool:
        """Whether there is a mask."""
        return image_id in self._rows

    def image_of(self, image_id: str) -> str:
        """The file of the mask, which all tiles of an image share."""
        return split_window(self._rows[image_id].mask_path)[0]

    def read(self, image_id: str) -> np.ndarray:
        """The ground truth of one image in the pipeline's frame, brought there by nearest neighbour.

        What several tiles show is counted in one of them, and ignored in the others.

        Returns:
            int32 (h, w): class ids, or `classes.ignore_index`.

        Raises:
            InputError: The mask is gone, has changed, or holds ids that `classes.json` or the protocol does not list.
        """
        row, table = self._rows[image_id], self.classes.mask_ids
        colours = self.classes.mask_ids is not None and self.classes.mask_ids.colours
        values = self._values_of(row, colours).astype(np.int32)
        if table:
            mask = table.translate(values)
            unknown = mask == UNKNOWN
        else:
            mask = values
            unknown = (mask >= len(self.classes.names)) & (mask != self.classes.ignore_index)
        if unknown.any():
            if self._unknown_ids == "error":
                raise InputError(f"{row.mask_path}: {self._describe(values[unknown])}")
            mask[unknown] = self.classes.ignore_index
        if part := split_window(row.mask_path)[1]:
            part.hide_foreign(mask, self.classes.ignore_index)
        return mask_to_frame(mask, self._frame)

    def _values_of(self, row: TruthRow, colours: bool) -> np.ndarray:
        """What the mask of one image holds, (H, W); of colours the packed number."""
        path, part = split_window(row.mask_path)
        if part is None:
            return _decode(path, row.mask_sha256, colours, self._max_pixels)
        if self._whole is None or self._whole[0] != path:
            self._whole = path, _decode(path, row.mask_sha256, colours, self._max_pixels)
        return part.cut(self._whole[1])

    def _describe(self, unknown: np.ndarray) -> str:
        table, values = self.classes.mask_ids, np.unique(unknown)[:10].tolist()
        ids = ", ".join(f"#{value:06x}" if table and table.colours else str(value) for value in values)
        if self.classes.protocol:
            return (
                f"ids {ids} are not in the table of protocol {self.classes.protocol}; check that the masks are those "
                "of the download, or set evaluate.unknown_ids to ignore"
            )
        return f"ids {ids} are not in classes.json; add them there, or set evaluate.unknown_ids to ignore"

    def _values(self) -> set[int]:
        values: set[int] = set()
        for row in self._rows.values():
            values.update(np.unique(self._values_of(row, False)).tolist())
        return values


def open_truth(
    table: ImageTable, truth: TruthTable, split: str, unknown_ids: Literal["ignore", "error"]
) -> GroundTruth | None:
    """Choose the scored split and open its masks.

    Args:
        table: All images.
        truth: All masks.
        split: A split's name, several joined by "+", or "auto": val if it has masks, else train.
        unknown_ids: What to do with ids that `classes.json` does not list.

    Returns:
        The masks, or None when there are none at all.

    Raises:
        ParamsError: A split was named that has no masks though others have.
    """
    labelled = sorted({row.split for row in truth.rows})
    if not labelled:
        return None
    if split == "auto":
        split = next((name for name in ("val", "train") if name in labelled), labelled[0])
    names = split.split("+")
    if absent := [name for name in names if name not in labelled]:
        raise ParamsError(
            f"evaluate.split: {absent[0]!r} has no masks; splits with masks are {', '.join(labelled)} "
            f"(splits with images: {', '.join(table.splits)})"
        )
    if len(set(names)) < len(names):
        raise ParamsError(f"evaluate.split: {split!r} names a split twice; name each once")
    return GroundTruth(table, truth, split, unknown_ids)


def _decode(path: str, sha256: str, colours: bool, max_pixels: int) -> np.ndarray:
    """The mask's ids as they are stored, a palette as indices; or its colours, packed."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore it, or run `dvc repro`") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: has changed since prepare; run `dvc repro` to take the new mask")
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow refuses twice as many undecoded
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            mask = np.array(image)
    except Exception as error:  # damaged files make Pillow raise nearly every kind of exception
        raise InputError(f"{path}: cannot be decoded ({error}); save it again as 8-bit PNG") from None
    if colours and mask.ndim == 3 and mask.shape[2] == 3:
        return pack_colours(mask)
    if mask.ndim != 2 or colours:
        wanted = "colours" if colours else "class ids as a one-channel PNG"
        raise InputError(f"{path}: has {mask.ndim} dimensions; save {wanted}")
    return mask
