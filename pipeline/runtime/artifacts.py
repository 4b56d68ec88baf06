"""Output folders that appear whole or not at all.

A writer fills a private sibling folder; on success every file is flushed to disk, `manifest.json` is written last
(names, sizes, SHA-256, rows), and the folder is renamed into place. A reader accepts a folder only with a manifest
that agrees with what lies there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.runtime.digests import file_digest
from pipeline.runtime.disk_errors import explain_disk_errors, explained

MANIFEST = "manifest.json"
_UMASK = os.umask(0o077)  # there is no way to look without setting it
os.umask(_UMASK)


@dataclass
class ArtifactWriter:
    """A folder under construction.

    Attributes:
        path: Where to write; it is renamed to the final name when the `create_artifact` block ends well.
        rows: Rows per file name, for tables; noted in the manifest.
        notes: Plain values to be noted in the manifest (fingerprint, versions, parameters…).
    """

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def create_artifact(out: Path, *, unlisted: tuple[str, ...] = ()) -> Iterator[ArtifactWriter]:
    """Build `out` as a whole: the old folder stays visible until the new one is complete.

    Args:
        out: The final folder; its parent is made if missing.
        unlisted: First path parts that the manifest leaves out, because they carry their own digests and must
            not change the manifest (the label side of `data/prepared`).

    Yields:
        The writer.

    Raises:
        InputError: The disk is full, or the place cannot be written; the temporary folder is removed.
    """
    recover_artifact(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    except OSError as error:
        raise explained(error, out) from error
    writer = ArtifactWriter(temporary)
    try:
        with explain_disk_errors(out):
            yield writer
            _write_manifest(writer, unlisted)
            _swap_in(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_artifact(out: Path) -> None:
    """Mend what a killed writer left beside `out`: put an old folder back, remove half-written ones.

    The caller holds the folder's lock, so nobody else is writing.
    """
    if not out.parent.is_dir():
        return
    old = _old_name(out)
    if old.exists():
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(out)
    for leftover in out.parent.glob(f".{out.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


@dataclass(frozen=True)
class Artifact:
    """A finished folder, opened for reading.

    Attributes:
        path: The folder.
        manifest: Its `manifest.json`.
    """

    path: Path
    manifest: dict[str, Any]

    def file(self, name: str) -> Path:
        """Path of one listed file, after its size and SHA-256 were checked.

        Raises:
            InputError: The file is not listed, missing or altered; the message names it and the stage to re-run.
        """
        entry = self.manifest["files"].get(name)
        path = self.path / name
        if entry is None:
            raise InputError(f"{path}: not listed in {self.path / MANIFEST}; {self._mend}")
        if not path.is_file():
            raise InputError(f"{path}: missing, though the manifest lists it; {self._mend}")
        if path.stat().st_size != entry["bytes"] or file_digest(path) != entry["sha256"]:
            raise InputError(f"{path}: differs from its digest in the manifest (truncated or altered); {self._mend}")
        return path

    def files(self, pattern: str) -> list[Path]:
        """Paths of all listed files that match a glob pattern, sorted and checked."""
        return [self.file(name) for name in sorted(self.manifest["files"]) if Path(name).match(pattern)]

    def json(self, name: str) -> Any:
        """A listed JSON file, checked and parsed.

        Raises:
            InputError: See `file`; or the file is not JSON.
        """
        path = self.file(name)
        try:
            return json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not JSON ({error}); {self._mend}") from None

    def note(self, *keys: str) -> Any:
        """A value that the manifest notes, such as `note("params", "pgg")`.

        Raises:
            InputError: It notes no such value.
        """
        value: Any = self.manifest
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            raise InputError(f"{self.path / MANIFEST}: does not note {'.'.join(keys)}; {self._mend}")
        return value

    @property
    def _mend(self) -> str:
        return f"rebuild it with `dvc repro --force --single-item {self.manifest.get('stage', '<stage>')}`"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a finished folder, whose files are not looked at.

    Raises:
        InputError: There is no valid manifest.
    """
    manifest = path / MANIFEST
    try:
        return _checked_manifest(json.loads(manifest.read_text("utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no finished output here ({MANIFEST} is missing); run `dvc repro` first") from None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{manifest}: not a valid manifest ({error}); rebuild the folder with `dvc repro`") from None


def open_artifact(path: Path) -> Artifact:
    """Open a finished folder.

    Raises:
        InputError: There is no valid manifest, or the folder holds other files than the manifest lists.
    """
    manifest = read_manifest(path)
    listed, unlisted = set(manifest["files"]), tuple(manifest.get("unlisted", ()))
    present = {name for name in _file_names(path) if name.split("/")[0] not in unlisted} - {MANIFEST}
    artifact = Artifact(path, manifest)
    if surplus := sorted(present - listed):
        raise InputError(
            f"{path / surplus[0]}: not listed in the manifest (from another run?); remove it, or {artifact._mend}"
        )
    if missing := sorted(listed - present):
        raise InputError(f"{path / missing[0]}: missing, though the manifest lists it; {artifact._mend}")
    return artifact


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and without NaN, so that equal values are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def replace_file(path: Path, data: bytes) -> None:
    """Write a single file whole or not at all, flushed to disk before its name appears; an error carries its path."""
    try:
        _replace_file(path, data)
    except OSError as error:
        error.filename = str(path)  # that of a full disk names no file
        raise


def _replace_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, 0o666 & ~_UMASK)  # a private file would keep others from reading the result
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _checked_manifest(manifest: Any) -> dict[str, Any]:
    """What a file holds that says it is a manifest; ValueError if it is none."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError("it has no table of files")
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str) or "bytes" not in entry:
            raise ValueError(f"its entry of {name!r} has no size and digest")
    for key in ("params", "inputs", "versions", "machine"):
        if not isinstance(manifest.get(key, {}), dict):
            raise ValueError(f"its {key} are no table")
    unlisted = manifest.get("unlisted", [])
    if not isinstance(unlisted, list) or not all(isinstance(name, str) for name in unlisted):
        raise ValueError("its unlisted parts are no list of names")
    return manifest


def _write_manifest(writer: ArtifactWriter, unlisted: tuple[str, ...]) -> None:
    files: dict[str, dict[str, Any]] = {}
    for name in sorted(_file_names(writer.path)):
        path = writer.path / name
        _flush(path)
        if name.split("/")[0] in unlisted:
            continue
        files[name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        if name in writer.rows:
            files[name]["rows"] = writer.rows[name]
    write_json(writer.path / MANIFEST, {**writer.notes, "files": files, "unlisted": list(unlisted)})
    _flush(writer.path / MANIFEST)
    for folder, _, _ in os.walk(writer.path):
        _flush(Path(folder))


def _swap_in(temporary: Path, out: Path) -> None:
    temporary.chmod(0o777 & ~_UMASK)
    old = _old_name(out)
    if out.exists():
        out.rename(old)
    temporary.rename(out)
    _flush(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old_name(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _file_names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
