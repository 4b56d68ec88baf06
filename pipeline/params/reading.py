"""Reads `params.yaml`; every stage validates the whole file before any work."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import ParamsError
from pipeline.params.whole import Params, find_inconsistencies
from pipeline.yaml_reader import read_yaml

LONGEST = 200  # characters of a value in a message


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the whole of a params file.

    Args:
        path: The file, `params.yaml` by default.

    Returns:
        The frozen parameters.

    Raises:
        ParamsError: One message that lists *all* problems, each with the full key, the value and the mend.
    """
    return parse_params(read_yaml(path), name=str(path))


def parse_params(raw: Any, name: str = "params.yaml") -> Params:
    """Validate parameters that were read already; see `load_params`."""
    if not isinstance(raw, dict):
        raise ParamsError(
            f"{name}: expected groups of keys, found {_shown(raw)}; restore it with `git checkout {name}`"
        )
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(_listing(name, _describe(error))) from None
    problems = find_inconsistencies(params)
    if problems:
        raise ParamsError(_listing(name, problems))
    return params


def known_keys(group: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """All valid full keys (`pgg.k`, `train.cae.gamma`, …), groups included, in the order of the file."""
    keys = []
    for field, info in group.model_fields.items():
        keys.append(prefix + field)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += known_keys(info.annotation, f"{prefix}{field}.")
    return keys


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _listing(name: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{name}: {problems[0]}"
    return "\n  ".join([f"{name}: {len(problems)} problems", *problems])


def _describe(error: ValidationError) -> list[str]:
    """One line per key; a key that may have several types gets its complaints joined by "or"."""
    known = known_keys()
    lines: dict[str, str] = {}
    for problem in error.errors():
        # pydantic adds the tried branch of a union to the location; only real keys and list positions are kept
        key = ""
        for part in problem["loc"]:
            if isinstance(part, int):
                key += f"[{part}]"
            elif not key or f"{key}.{part}" in known or problem["type"] == "extra_forbidden":
                key = f"{key}.{part}" if key else str(part)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            lines[key] = f"{key}: unknown key (value {_shown(problem['input'])}); the nearest valid key is {near}"
        elif problem["type"] == "missing":
            lines[key] = f"{key}: missing; restore it with `git checkout params.yaml`"
        else:
            complaint = problem["msg"][0].lower() + problem["msg"][1:]
            start = lines.get(key, f"{key}: {_shown(problem['input'])} is not accepted: ")
            lines[key] = f"{start} or {complaint}" if key in lines else start + complaint
    return list(lines.values())
