"""From a row of the image table to its frame: the file's digest checked, decoded, brought to the common frame."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.frames import to_frame
from pipeline.data.images import BadImage
from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.data.pixels import decode_pixels
from pipeline.errors import InputError


def read_frame(row: ImageRow, table: ImageTable) -> NDArray[np.uint8]:
    """Read one image in the frame in which all stages see it.

    Args:
        row: A usable image of the table.
        table: Says how to decode and to frame.

    Returns:
        uint8 (C, h, w); C is 3 for RGB, else `data.channels`.

    Raises:
        InputError: The file is gone or is not the one that `prepare` saw.
    """
    mend = "restore the file, or run `dvc repro` to look at the images again"
    try:
        data = Path(row.path).read_bytes()
    except OSError as error:
        raise InputError(f"{row.path}: cannot be read any more since prepare ({error.strerror}); {mend}") from None
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise InputError(f"{row.path}: the file has changed since prepare; {mend}")
    try:
        image = decode_pixels(data, channels=table.channels, max_pixels=table.max_pixels, min_side=table.min_side)
    except BadImage as error:  # prepare could decode the same bytes, with another version of Pillow
        raise InputError(f"{row.path}: {error}, unlike at prepare; run `dvc repro --force`") from None
    return to_frame(image if table.bands is None else table.bands.scale(image), table.frame)
