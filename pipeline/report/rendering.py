"""Templates of the pages, and how they write numbers."""

from __future__ import annotations

import math
from pathlib import Path

import jinja2


def page_templates() -> jinja2.Environment:
    """Templates that escape all values, refuse unknown names, and write numbers in one way."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["signed"] = _signed
    return environment


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _signed(number: float) -> str:
    text = f"{number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")
