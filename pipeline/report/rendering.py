"""The page templates, and how numbers are written in them."""

from __future__ import annotations

import math
from pathlib import Path

import jinja2


def page_templates() -> jinja2.Environment:
    """The templates of this folder; unknown names are errors, text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
