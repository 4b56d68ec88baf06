"""Rows 6 and 7: image files that are broken, hostile, or of another kind."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import decode_image
from pipeline.data.manifest import read_images
from tests.faults.faulty import encode, make_photos, noise, read_folder, refuse
from tests.graph.project import Project

pytestmark = pytest.mark.graph


def bomb(side: int) -> bytes:
    """A PNG of `side` squared pixels in a few kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000), 9)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_row_06_broken_images(project: Project, tmp_path: Path) -> None:
    """Images that are truncated, empty, web pages under the name .jpg, or decompression bombs.

    Set aside with a reason, and the run goes on up to `data.max_bad_fraction`; above, exit code 3 and the first ten.
    """
    root = make_photos(tmp_path / "photos", train=20)
    train = root / "images/train"
    broken = {
        "cut.jpg": encode(noise(1), "JPEG")[:900],
        "empty.png": b"",
        "page.jpg": b"<!DOCTYPE html><html>404</html>",
        "bomb.png": bomb(60_000),
    }
    for name, data in broken.items():
        (train / name).write_bytes(data)
    read_folder(project, root, max_bad_fraction=0.5)
    output = project.stage("prepare")
    assert "images 26, rejected 4" in output
    verdicts = {
        Path(row.path).name: row.verdict for row in read_images(project.root / "data/prepared/images.parquet").rows
    }
    assert verdicts["cut.jpg"] == "truncated"
    assert verdicts["empty.png"] == "empty file"
    assert verdicts["page.jpg"] == "not an image"
    assert verdicts["bomb.png"] == "too many pixels (more than 100000000)"
    project.stage("extract")

    for number in range(12):
        (train / f"more{number:02d}.png").write_bytes(b"")
    project.set_params({"data": {"max_bad_fraction": 0.1}})
    output = refuse(
        project, "prepare", 3, "16 of 38 images (42.1%) cannot be used, more than data.max_bad_fraction 0.1"
    )
    assert output.count(": empty file") + output.count("bomb.png: ") + output.count("cut.jpg: ") == 10
    for path in [*train.glob("more*"), *(train / name for name in broken)]:
        path.unlink()
    assert "images 22, rejected 0" in project.stage("prepare")


GREY = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24) // 2
MODES = {
    "L": Image.fromarray(GREY),
    "RGBA": Image.fromarray(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)])),
    "LA": Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (24, 20), 255)]),
    "P": Image.fromarray(GREY).convert("P"),
    "I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
    "CMYK": Image.fromarray(np.dstack([GREY] * 3)).convert("CMYK"),
    "1": Image.fromarray(GREY > 60),
}


@pytest.mark.parametrize("mode", MODES)
def test_row_07_every_mode_becomes_rgb(mode: str) -> None:
    """Grey, RGBA, palette, 16-bit, CMYK and bilevel images.

    Converted to RGB of 8 bits by a fixed rule for each mode.
    """
    ending = "TIFF" if mode == "CMYK" else "PNG"
    image = decode_image(encode(MODES[mode], ending), max_pixels=10**6, min_side=1)
    assert image.dtype == np.uint8
    expected = np.where(GREY > 60, 255, 0) if mode == "1" else GREY
    np.testing.assert_array_equal(image, np.dstack([expected] * 3))


def test_row_07_exif_rotation(project: Project, tmp_path: Path) -> None:
    """A photo whose EXIF says that it lies on its side.

    Turned upright, also where it is compared with its mask.
    """
    root = make_photos(tmp_path / "photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(5, (64, 96)).save(root / "images/val/turned.jpg", exif=exif)
    noise(6, (96, 64), 1).save(root / "masks/val/turned.png")
    read_folder(project, root)
    assert "masks 3" in project.stage("prepare")
    (row,) = (row for row in read_images(project.root / "data/prepared/images.parquet").rows if "turned" in row.path)
    assert (row.width, row.height) == (64, 96)
    noise(6, (64, 96), 1).save(root / "masks/val/turned.png")
    refuse(project, "prepare", 3, "the mask is 96 x 64, but its image", "is 64 x 96 (after its EXIF rotation)")
