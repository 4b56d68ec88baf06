"""SHA-256 digests of files, folders and plain values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.yaml_reader import read_yaml


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a plain value (anything that JSON writes), independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def code_digest() -> str:
    """SHA-256 over all Python files of the project's packages, for resume state that must not survive an edit."""
    package = Path(__file__).resolve().parents[1]
    sources = sorted([*package.rglob("*.py"), *(package.parent / "stages").glob("*.py")])
    return value_digest([[path.relative_to(package.parent).as_posix(), file_digest(path)] for path in sources])


def stage_code_digest(stage: str) -> str:
    """SHA-256 over the modules that a stage imports, for what an edit elsewhere in the project does not touch.

    Args:
        stage: Its name in `dvc.yaml`, where the modules are listed (a test compares the list with the imports).
    """
    root = Path(__file__).resolve().parents[2]
    listed = [dep for dep in read_yaml(root / "dvc.yaml")["stages"][stage]["deps"] if dep.endswith(".py")]
    return value_digest([[name, file_digest(root / name)] for name in sorted(listed)])
