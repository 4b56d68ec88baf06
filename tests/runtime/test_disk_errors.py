import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import InputError
from pipeline.runtime.artifacts import create_artifact, replace_file
from pipeline.runtime.disk_errors import explain_disk_errors

OUT = Path("data/out")


@pytest.fixture(autouse=True)
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two disks: 1 MB are free below `.fs4`, 9 MB elsewhere."""
    monkeypatch.chdir(tmp_path)
    OUT.parent.mkdir()
    Path(".fs4/scratch").mkdir(parents=True)

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=1e6 if ".fs4" in Path(folder).parts else 9e6)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def full(name: str | None, number: int = errno.ENOSPC) -> OSError:
    return OSError(number, "some words", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, r"^data/out: cannot be written \(No space left on device, 9 MB free\)"),
        ("data/out", r"^data/out: .*, 9 MB free"),
        ("data", r"^data/out: .*, 9 MB free"),
        ("data/.out.tmp-abc/level=1/part", r"^data/out: .*, 9 MB free"),
        ("data/.out.old", r"^data/out: .*, 9 MB free"),
        ("data/outer", r"^data/outer: .*, 9 MB free"),
        (
            ".fs4/scratch/train/x/checkpoint.pt",
            r"^\.fs4/scratch/train/x/checkpoint\.pt: cannot be written .*, 1 MB free",
        ),
    ],
)
def test_names_the_place_and_what_is_free_there(name: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message), explain_disk_errors(OUT):
        raise full(name)


def test_what_may_have_been_read_is_not_said_to_be_written() -> None:
    message = r"^photo\.jpg: cannot be read or written \(Permission denied"
    with pytest.raises(InputError, match=message), explain_disk_errors(OUT):
        raise full("photo.jpg", errno.EACCES)
    with pytest.raises(FileNotFoundError), explain_disk_errors(OUT):
        raise full("photo.jpg", errno.ENOENT)


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_file_of_resume_state_is_named(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as of `write`: no name

    message = r"^\.fs4/scratch/state\.npz: cannot be written .*, 1 MB free"
    with pytest.raises(InputError, match=message), create_artifact(OUT):
        monkeypatch.setattr(os, call, fail)
        replace_file(Path(".fs4/scratch/state.npz"), b"state")
    assert not list(Path(".fs4/scratch").iterdir())
    assert not list(OUT.parent.iterdir())
