from pathlib import Path

import numpy as np
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.manifest import read_images, read_truth
from pipeline.data.prepare import prepare_images
from pipeline.data.sources.tiles import grid_windows
from pipeline.evaluation.truth import open_truth
from pipeline.params import DataParams, load_params

DATA = load_params(Path(__file__).parents[3] / "params.yaml").data


def settings(root: Path, **changes) -> DataParams:
    keys = {"source": "folder", "root": str(root), "resize": 32, "min_side": 8, "tile": 32, "tile_overlap": 10}
    return DATA.model_copy(update={**keys, **changes})


def paint(root: Path, name: str, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask of ids 0 to 2, as files."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, (height, width), dtype=np.uint8)
    for folder, content in (("images", pixels), ("masks", ids)):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(root / folder / f"{name}.png")
    return pixels, ids


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 120), st.floats(0, 0.5))
def test_tiles_cover_an_image_and_each_pixel_belongs_to_one(width, height, side, share):
    windows = grid_windows((width, height), side, int(share * side))
    seen, owned = np.zeros((height, width), int), np.zeros((height, width), int)
    for window in windows:
        assert (window.width, window.height) == (min(side, width), min(side, height))
        assert 0 <= window.x <= width - window.width
        assert 0 <= window.y <= height - window.height
        seen[window.y : window.y + window.height, window.x : window.x + window.width] += 1
        x, y, wide, tall = window.own or (window.x, window.y, window.width, window.height)
        assert window.x <= x <= x + wide <= window.x + window.width
        assert window.y <= y <= y + tall <= window.y + window.height
        owned[y : y + tall, x : x + wide] += 1
    assert (seen >= 1).all()
    assert (owned == 1).all()
    assert [(window.y, window.x) for window in windows] == sorted({(window.y, window.x) for window in windows})


def test_what_two_tiles_share_is_divided_in_its_middle():
    first, second, last = grid_windows((100, 40), 40, 10)
    assert [(window.x, window.own) for window in (first, second, last)] == [
        (0, (0, 0, 35, 40)),
        (30, (35, 0, 30, 40)),
        (60, (65, 0, 35, 40)),
    ]
    assert [window.own for window in grid_windows((80, 40), 40, 0)] == [None, None]


def test_tiles_and_their_masks_are_parts_of_the_whole(tmp_path):
    paint(tmp_path / "photos", "train/a", 40, 60, 1)
    pixels, ids = paint(tmp_path / "photos", "val/b", 50, 80, 2)
    prepare_images(settings(tmp_path / "photos"), tmp_path / "out", final=tmp_path / "out", threads=1)
    table, truth = read_images(tmp_path / "out/images.parquet"), read_truth(tmp_path / "out/truth.parquet")
    opened = open_truth(table, truth, "val", "error")
    assert opened is not None
    assert opened.classes.names == ("class 0", "class 1", "class 2")
    rows = table.select("val")
    assert [row.image_id for row in rows] == [
        f"val/b.png/y{y:05d}x{x:05d}.png" for y in (0, 18) for x in (0, 22, 44, 48)
    ]
    counted = np.zeros(ids.shape, int)
    for row in rows:
        y, x = (int(row.image_id[-15:][place : place + 5]) for place in (0, 6))
        np.testing.assert_array_equal(np.array(Image.open(row.path)), pixels[y : y + 32, x : x + 32])
        read = opened.read(row.image_id)
        own = read != 255
        np.testing.assert_array_equal(read[own], ids[y : y + 32, x : x + 32][own])
        counted[y : y + 32, x : x + 32] += own
    assert (counted == 1).all()


def test_the_generated_scenes_can_be_cut_too(tmp_path):
    scenes = DATA.scenes.model_copy(update={"train": 1, "val": 1, "height": 32, "width": 64})
    changes = {"source": "scenes", "scenes": scenes, "tile_overlap": 0}
    counts = prepare_images(settings(tmp_path, **changes), tmp_path, final=tmp_path, threads=1)
    assert (counts.images, counts.masks) == (4, 4)


def test_images_smaller_than_a_tile_are_one(tmp_path):
    paint(tmp_path / "photos", "train/a", 20, 90)
    counts = prepare_images(settings(tmp_path / "photos"), tmp_path / "out", final=tmp_path / "out", threads=1)
    assert counts.images == 4
    sizes = {(row.width, row.height) for row in read_images(tmp_path / "out/images.parquet").rows}
    assert sizes == {(32, 20)}


def test_tiles_of_other_channels_keep_their_values(tmp_path):
    pixels = np.random.default_rng(0).normal(5, 2, (5, 40, 64)).astype(np.float32)
    (tmp_path / "photos").mkdir()
    tifffile.imwrite(tmp_path / "photos/a.tif", pixels, photometric="minisblack")
    changes = {"channels": 5, "tile_overlap": 0}
    prepare_images(settings(tmp_path / "photos", **changes), tmp_path / "out", final=tmp_path / "out", threads=1)
    rows = read_images(tmp_path / "out/images.parquet").rows
    assert [row.image_id for row in rows] == [f"a.tif/y{y:05d}x{x:05d}.npy" for y in (0, 8) for x in (0, 32)]
    np.testing.assert_array_equal(np.load(rows[-1].path), np.moveaxis(pixels, 0, -1)[8:40, 32:64])


def test_a_broken_image_is_set_aside_with_all_its_tiles(tmp_path):
    paint(tmp_path / "photos", "train/a", 32, 64)
    paint(tmp_path / "photos", "train/b", 32, 64, 1)
    path = tmp_path / "photos/images/train/b.png"
    path.write_bytes(path.read_bytes()[:3000])
    (tmp_path / "photos/images/train/c.png").write_bytes(b"nothing")
    allowed = settings(tmp_path / "photos", max_bad_fraction=0.7, tile_overlap=0)
    counts = prepare_images(allowed, tmp_path / "out", final=tmp_path / "out", threads=1)
    assert (counts.images, counts.rejected) == (5, 3)
    verdicts = {row.image_id: row.verdict for row in read_images(tmp_path / "out/images.parquet").rows}
    assert verdicts["train/b.png/y00000x00032.png"] == "truncated"
    assert verdicts["train/c.png"] == "not an image"


def test_the_limit_counts_tiles(tmp_path):
    paint(tmp_path / "photos", "train/a", 64, 64)
    counts = prepare_images(settings(tmp_path / "photos", limit=2), tmp_path / "out", final=tmp_path / "out", threads=1)
    assert counts.images == 2
    assert len([path for path in (tmp_path / "out/tiles").rglob("*.png") if path.is_file()]) == 2
