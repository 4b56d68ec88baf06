import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.sources.listing import SourceImage
from pipeline.data.sources.masks import check_mask, check_source_mask
from pipeline.data.windows import Window
from pipeline.errors import InputError


def header(width: int, height: int, depth: int, colour: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + body


MASK, IMAGE = Path("m/a.png"), Path("i/a.jpg")


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (8, 0), (16, 0), (1, 3), (4, 3), (8, 3)])
def test_masks_of_one_channel_pass(depth, colour):
    check_mask(MASK, header(40, 30, depth, colour), IMAGE, 40, 30)


@pytest.mark.parametrize(
    ("depth", "colour", "words"),
    [(8, 2, "is RGB;"), (8, 6, "RGB with alpha"), (8, 4, "grey with alpha"), (4, 0, "grey of 4 bits")],
)
def test_masks_of_other_modes_are_refused(depth, colour, words):
    with pytest.raises(InputError, match=f"a.png: the mask {words}|{words}"):
        check_mask(MASK, header(40, 30, depth, colour), IMAGE, 40, 30)


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(InputError, match=r"m/a.png: .*30 x 40.*i/a.jpg is 40 x 30"):
        check_mask(MASK, header(30, 40, 8, 0), IMAGE, 40, 30)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff" + bytes(40), header(4, 3, 8, 0)[:20]])
def test_a_mask_that_is_no_png_is_refused(data):
    with pytest.raises(InputError, match=r"m/a.png: not a PNG file"):
        check_mask(MASK, data, IMAGE, 4, 3)


def picture(mode: str, size: tuple[int, int]) -> bytes:
    written = io.BytesIO()
    Image.new(mode, size).save(written, "TIFF")
    return written.getvalue()


def test_the_mask_of_a_tile_has_the_size_of_the_whole_image():
    window = Window(0, 0, 32, 32, (80, 60))
    tile = SourceImage("train/a.tif/y00000x00000.png", "train", IMAGE, MASK, window)
    check_source_mask(tile, header(80, 60, 8, 0), (32, 32))
    with pytest.raises(InputError, match=r"m/a.png: the mask is 32 x 32, but its image train/a.tif is 80 x 60"):
        check_source_mask(tile, header(32, 32, 8, 0), (32, 32))
    colours = SourceImage("train/a.tif/y00000x00000.png", "train", IMAGE, Path("m/a_label.tif"), window)
    check_source_mask(colours, picture("RGB", (80, 60)), (32, 32))
    with pytest.raises(InputError, match="80 x 61"):
        check_source_mask(colours, picture("RGB", (80, 61)), (32, 32))
    with pytest.raises(InputError, match="of mode L"):
        check_source_mask(colours, picture("L", (80, 60)), (32, 32))
