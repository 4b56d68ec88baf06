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
from pipeline.data.manifest import ImageTable, TruthRow, TruthTable
from pipeline.errors import InputError, ParamsError


class GroundTruth:
    """The masks of a data set, decoded one at a time.

    Attributes:
        classes: The classes; without a `classes.json`, one for each value up to the largest that occurs.
        split: The split that is scored.
    """

    def __init__(
        self, table: ImageTable, truth: TruthTable, split: str, unknown_ids: Literal["ignore", "error"]
    ) -> None:
        self._rows = {row.image_id: row for row in truth.rows}
        self._frame: Frame = table.frame
        self._unknown_ids = unknown_ids
        self.split = split
        if truth.classes_text is not None:
            self.classes: ClassList = parse_classes(truth.classes_text, "classes.json")
        else:
            self.classes = default_classes(self._values())

    def has(self, image_id: str) -> bool:
        """Whether there is a mask."""
        return image_id in self._rows

    def read(self, image_id: str) -> np.ndarray:
        """The ground truth of one image in the pipeline's frame, brought there by nearest neighbour.

        Returns:
            int32 (h, w): class ids, or `classes.ignore_index`.

        Raises:
            InputError: The mask is gone, has changed, or holds ids that `classes.json` does not list.
        """
        row = self._rows[image_id]
        mask = _decode(row).astype(np.int32)
        unknown = (mask >= len(self.classes.names)) & (mask != self.classes.ignore_index)
        if unknown.any():
            if self._unknown_ids == "error":
                ids = ", ".join(map(str, np.unique(mask[unknown])[:10]))
                raise InputError(
                    f"{row.mask_path}: ids {ids} are not in classes.json; add them there, or set "
                    "evaluate.unknown_ids to ignore"
                )
            mask[unknown] = self.classes.ignore_index
        return mask_to_frame(mask, self._frame)

    def _values(self) -> set[int]:
        values: set[int] = set()
        for row in self._rows.values():
            values.update(np.unique(_decode(row)).tolist())
        return values


def open_truth(
    table: ImageTable, truth: TruthTable, split: str, unknown_ids: Literal["ignore", "error"]
) -> GroundTruth | None:
    """Choose the scored split and open its masks.

    Args:
        table: All images.
        truth: All masks.
        split: A split's name, or "auto": val if it has masks, else train.
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
    if split not in labelled:
        raise ParamsError(
            f"evaluate.split: {split!r} has no masks; splits with masks are {', '.join(labelled)} "
            f"(splits with images: {', '.join(table.splits)})"
        )
    return GroundTruth(table, truth, split, unknown_ids)


def _decode(row: TruthRow) -> np.ndarray:
    """The mask's ids as they are stored; a palette is read as indices."""
    try:
        data = Path(row.mask_path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{row.mask_path}: cannot be read ({error.strerror}); restore it, or run `dvc repro`"
        ) from None
    if hashlib.sha256(data).hexdigest() != row.mask_sha256:
        raise InputError(f"{row.mask_path}: has changed since prepare; run `dvc repro` to take the new mask")
    try:
        with Image.open(io.BytesIO(data)) as image:
            mask = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{row.mask_path}: cannot be decoded ({error}); save it again as 8-bit PNG") from None
    if mask.ndim != 2:
        raise InputError(f"{row.mask_path}: has {mask.ndim} dimensions; save class ids as a one-channel PNG")
    return mask
