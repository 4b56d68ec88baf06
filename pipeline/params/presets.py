"""Presets: named sets of overrides of `params.yaml`, which can be combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError
from pipeline.params.reading import parse_params
from pipeline.params.whole import Params
from pipeline.yaml_reader import read_yaml

PRESETS = Path("presets")


def read_presets(names: Sequence[str], base: Path = Path("params.yaml")) -> dict[str, Any]:
    """Read several presets as one; where they name the same key, the last one wins.

    Args:
        names: Files of `presets/` without their ending.
        base: The parameters that they change.

    Returns:
        The overrides, as nested groups.

    Raises:
        ParamsError: There is no such preset, or the parameters with these overrides are wrong.
    """
    merged: dict[str, Any] = {}
    for name in names:
        path = PRESETS / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml"))) or "none"
            raise ParamsError(f"{path}: no such preset; known here: {known}")
        overrides = read_yaml(path)
        if not isinstance(overrides, dict):
            raise ParamsError(f"{path}: expected groups of keys as in params.yaml, found {overrides!r}")
        merged = merge_overrides(merged, overrides)
    files = " and ".join(str(PRESETS / f"{name}.yaml") for name in names)
    parse_params(merge_overrides(read_yaml(base), merged), name=f"{base} with {files}")
    return merged


def overlay_presets(params: Params, names: Sequence[str]) -> Params:
    """Parameters with those of presets over them.

    Args:
        params: All parameters.
        names: See `read_presets`.

    Raises:
        ParamsError: There is no such preset, or the parameters with these overrides are wrong.
    """
    overrides = read_presets(names)
    return parse_params(merge_overrides(params.model_dump(), overrides), name=f"params.yaml with {' and '.join(names)}")


def find_presets(source: str, protocol: str) -> list[str]:
    """Names of the presets that are for a source and one of its protocols; see `data.source` and `data.protocol`."""
    found = []
    for path in sorted(PRESETS.glob("*.yaml")):
        overrides = read_yaml(path)
        data = overrides.get("data") if isinstance(overrides, dict) else None
        if isinstance(data, dict) and (data.get("source"), data.get("protocol")) == (source, protocol):
            found.append(path.stem)
    return found


def merge_overrides(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested groups with some values replaced; lists are replaced whole."""
    merged = dict(base)
    for key, value in overrides.items():
        inner = merged.get(key)
        merged[key] = merge_overrides(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def flatten_keys(groups: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full keys and values of nested groups, in order."""
    for key, value in groups.items():
        if isinstance(value, dict):
            yield from flatten_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def spell_flags(overrides: dict[str, Any]) -> list[str]:
    """Overrides as arguments of `dvc exp run`: `-S`, `key=value`, `-S`…

    Raises:
        ParamsError: A value has blanks, which the shell would split.
    """
    return [part for key, value in flatten_keys(overrides) for part in ("-S", f"{key}={_spelled(value)}")]


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_spelled(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if any(character.isspace() for character in text):
        raise ParamsError(f"{text!r} has blanks, which the shell would split; presets take values without")
    return text
