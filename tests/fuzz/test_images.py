"""Any bytes in place of an image, and of a pair that `fs4 score` reads."""

import hashlib
import io
import json
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.images import BadImage, decode_image
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.errors import InputError
from pipeline.evaluation.pairs import read_labels
from pipeline.evaluation.scoring import score_folders
from pipeline.evaluation.truth import open_truth
from tests.fuzz.cases import judge, tried
from tests.fuzz.damage import damaged

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (18, 20, 3), dtype=np.uint8))
LABELS = RNG.integers(0, 3, (12, 14), dtype=np.uint8)
MAX_PIXELS = 4000
MAGIC = [
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    b"\x89PNG\r\n\x1a\n",
    b"BM",
    b"GIF89a",
    b"RIFF\x24\0\0\0WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
]


def encode(image: Image.Image, ending: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, ending, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rest: bytes) -> bytes:
    """A PNG whose header is given, with valid checksums."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rest + chunk(b"IEND", b"")


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010E] = 6, "x" * 50
    return found


FILES = [
    encode(COLOURS, "JPEG", exif=exif(), icc_profile=bytes(range(200))),
    encode(COLOURS, "JPEG", progressive=True),
    encode(COLOURS.convert("CMYK"), "JPEG"),
    encode(COLOURS, "PNG", exif=exif(), icc_profile=bytes(range(200))),
    encode(COLOURS.convert("P"), "PNG", transparency=3),
    encode(COLOURS.convert("RGBA"), "WEBP", lossless=True, exif=exif()),
    encode(COLOURS, "WEBP"),
    encode(COLOURS.convert("I"), "TIFF"),
    encode(COLOURS, "TIFF", compression="tiff_lzw"),
    encode(COLOURS.convert("F"), "TIFF", compression="tiff_deflate"),
    encode(COLOURS.convert("P"), "GIF", save_all=True, append_images=[COLOURS.convert("P")]),
    encode(COLOURS, "BMP"),
]
SIZES = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
HEADERS = st.builds(
    png,
    SIZES,
    SIZES,
    st.sampled_from([1, 2, 4, 8, 16, 3]),
    st.sampled_from([0, 2, 3, 4, 6, 1]),
    st.binary(max_size=60).map(lambda data: chunk(b"IDAT", zlib.compress(data))),
)
METADATA = st.tuples(
    st.sampled_from([b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"PLTE", b"acTL"]), st.binary(max_size=60)
)
ODD = METADATA.map(lambda pair: FILES[3][:33] + chunk(*pair) + FILES[3][33:])
EXIF = st.binary(max_size=80).map(
    lambda data: FILES[1][:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 8) + b"Exif\0\0" + data + FILES[1][2:]
)
BYTES = (
    st.sampled_from(FILES).flatmap(damaged)
    | st.builds(lambda magic, rest: magic + rest, st.sampled_from(MAGIC), st.binary(max_size=120))
    | HEADERS
    | ODD
    | EXIF
)


@given(data=BYTES)
@tried("images")
def test_any_image(data: bytes) -> None:
    def decode() -> np.ndarray:
        try:
            return decode_image(data, max_pixels=MAX_PIXELS, min_side=2)
        except BadImage as error:  # the file's name is put before it where it is reported
            assert 0 < len(str(error)) < 200
            raise InputError(str(error)) from None

    image = judge("images", decode)
    if image is not None:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert image.shape[0] * image.shape[1] <= MAX_PIXELS
        assert min(image.shape[:2]) >= 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("score")
    for name in ("predictions", "masks"):
        (root / name).mkdir()
    return root


WHOLE = [
    encode(Image.fromarray(LABELS), "PNG"),
    encode(Image.fromarray(LABELS).convert("P"), "PNG"),
    encode(Image.fromarray(LABELS.astype(np.uint16) * 300), "PNG"),
    encode(Image.fromarray(LABELS > 1), "PNG"),
    encode(Image.fromarray(np.full_like(LABELS, 255)), "PNG"),
    encode(Image.fromarray(LABELS[:5]), "PNG"),
]
MANY = [{"id": number, "name": str(number)} for number in range(200)]
SCORED = st.sampled_from(WHOLE) | st.sampled_from(WHOLE).flatmap(damaged) | HEADERS | st.sampled_from(FILES)


@given(prediction=SCORED, mask=SCORED, rule=st.sampled_from(["hungarian", "majority", "x"]), switch=st.booleans())
@tried("score")
def test_any_pair(folders: Path, prediction: bytes, mask: bytes, rule: str, switch: bool) -> None:
    (folders / "predictions/a.png").write_bytes(prediction)
    (folders / "masks/a.png").write_bytes(mask)

    def score() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return score_folders(
                folders / "predictions",
                folders / "masks",
                classes_file=None,
                rule=rule,
                output=None,
                boundary=switch,
                resize=switch,
                seed=0,
            )

    table = judge("score", score)
    if table is not None:
        assert "nan" not in table.lower()
        labels = read_labels(folders / "masks/a.png")
        assert labels.ndim == 2


CLASSES = [None, '{"classes": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}', f'{{"classes": {json.dumps(MANY)}}}']


@given(data=SCORED, text=st.sampled_from(CLASSES), unknown=st.sampled_from(["ignore", "error"]))
@tried("masks")
def test_any_mask(folders: Path, data: bytes, text: str | None, unknown: Literal["ignore", "error"]) -> None:
    path = folders / "mask.png"
    path.write_bytes(data)
    rows = [ImageRow("val/a.png", "val", "a.png", 64, 64, "", "ok")]
    masks = [TruthRow("val/a.png", "val", str(path), hashlib.sha256(data).hexdigest())]
    table = ImageTable(rows, Frame(32, "center"), MAX_PIXELS, 1)

    def read() -> tuple[np.ndarray, int, int]:
        truth = open_truth(table, TruthTable(masks, text), "auto", unknown)
        assert truth is not None
        return truth.read("val/a.png"), len(truth.classes.names), truth.classes.ignore_index

    found = judge("masks", read)
    if found is not None:
        mask, classes, ignored = found
        assert mask.shape == (32, 32)
        assert set(np.unique(mask).tolist()) <= {*range(classes), ignored}
