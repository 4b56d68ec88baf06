"""What the tests of faults share: folders of pictures, small disks, and how a refusal is checked."""

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.runtime.artifacts import write_json
from pipeline.runtime.digests import file_digest
from tests.graph.project import OUTS, Project


def noise(seed: int, size: tuple[int, int] = (64, 96), channels: int = 3) -> Image.Image:
    """A picture of random values, (h, w)."""
    shape = (*size, channels) if channels > 1 else size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def encode(image: Image.Image, ending: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, ending, **options)
    return buffer.getvalue()


def make_photos(root: Path, train: int = 4, val: int = 2, masks: bool = True) -> Path:
    """An input folder with pictures of two splits, and masks of `val` with the classes 0 and 1."""
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            place = root / "images" / split / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            noise(100 * len(split) + number).save(place)
            if masks and split == "val":
                mask = root / "masks" / split / f"{number}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.repeat([[0], [1]], 32, 0).repeat(96, 1).astype(np.uint8)).save(mask)
    return root


def read_folder(project: Project, root: Path, **data: Any) -> None:
    """Let `prepare` read a folder."""
    project.set_params({"data": {"source": "folder", "root": str(root), "max_bad_fraction": 0.0, **data}})


def everything(project: Project) -> dict[str, str]:
    """Digests of all files of all outputs that are there, by path."""
    data = project.root / "data"
    files = [path for out in OUTS for path in sorted((data / out).rglob("*")) if path.is_file()]
    return {path.relative_to(data).as_posix(): file_digest(path) for path in files}


def refuse(project: Project, stage: str, code: int, *said: str) -> str:
    """Run a stage that must fail as a user expects: exit code, words, no traceback, and all that was there is still.

    Returns:
        What it printed.
    """
    before = everything(project)
    output = project.stage(stage, code=code)
    assert "Traceback" not in output, output
    for words in said:
        assert words in output, f"{words!r} is not in:\n{output}"
    assert everything(project) == before
    assert not list(project.root.glob("data/.*.tmp-*"))
    return output


def alter_manifest(folder: Path, **notes: Any) -> None:
    """Write other notes into the manifest of a finished output."""
    path = folder / "manifest.json"
    noted = json.loads(path.read_text("utf-8"))
    path.unlink()
    write_json(path, {**noted, **notes})


def rewrite(path: Path, data: bytes) -> None:
    """Give a file other bytes under its name; copies of a project share bytes, so it is not written in place."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def list_anew(folder: Path) -> None:
    """Let the manifest of a finished output agree with what lies there now."""
    files = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    for name, entry in files.items():
        place = folder / name
        entry |= {"bytes": place.stat().st_size, "sha256": file_digest(place)}
    alter_manifest(folder, files=files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
