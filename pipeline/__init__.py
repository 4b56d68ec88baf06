"""FS4: fully self-supervised semantic segmentation from a folder of images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.export.loading import load_segmenter as load_segmenter

_OFFERED = {"load_segmenter": "pipeline.export.loading"}


def __getattr__(name: str) -> Any:
    # only when asked for: torch takes seconds to import
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)
