from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.manifest import ImageTable, read_images, read_truth
from pipeline.data.prepare import PrepareCounts, draw_images, prepare_images, resolve_root
from pipeline.data.reading import read_frame
from pipeline.data.sources.listing import SourceImage
from pipeline.errors import InputError, ParamsError
from pipeline.params import DataParams, ScenesParams
from pipeline.runtime.digests import file_digest

SCENES = ScenesParams(train=3, val=2, height=32, width=64)
FINAL = Path("data/prepared")


def params(root: Path | str, **changes) -> DataParams:
    values = {
        "source": "folder",
        "root": str(root),
        "protocol": "auto",
        "id_lists": "all",
        "channels": 3,
        "tile": 0,
        "tile_overlap": 0,
        "ignore_index": 255,
        "limit": 0,
        "max_bad_fraction": 0.0,
        "min_side": 8,
        "max_pixels": 10_000,
        "resize": 32,
        "crop": "center",
        "crop_size": 0,
        "seed": 0,
        "scenes": SCENES,
    }
    return DataParams.model_validate(values | changes)


def paint(path: Path, seed: int, size: tuple[int, int] = (30, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def paint_mask(path: Path, size: tuple[int, int] = (30, 40), value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def prepare(parameters: DataParams, out: Path) -> tuple[PrepareCounts, ImageTable]:
    out.mkdir(exist_ok=True)
    counts = prepare_images(parameters, out, final=FINAL, threads=2)
    return counts, read_images(out / "images.parquet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for seed, name in enumerate(["train/a.png", "train/b.png", "train/c.png", "val/a.png"]):
        paint(root / "images" / name, seed)
    paint_mask(root / "masks/val/a.png")
    return root


def test_images_and_masks_are_recorded(root, tmp_path):
    classes = '{"classes": [{"id": 0, "name": "sky"}, {"id": 1, "name": "sea"}]}'
    (root / "classes.json").write_text("\ufeff" + classes, "utf-8")
    counts, table = prepare(params(root, crop="none"), tmp_path / "out")
    assert counts == PrepareCounts(images=4, rejected=0, leaked=0, masks=1, per_split={"train": 3, "val": 1})
    assert (table.frame.resize, table.frame.crop) == (32, "none")
    assert (table.max_pixels, table.min_side) == (10_000, 8)
    assert [row.image_id for row in table.rows] == ["train/a.png", "train/b.png", "train/c.png", "val/a.png"]
    last = table.rows[-1]
    assert (last.split, last.width, last.height, last.verdict) == ("val", 40, 30, "ok")
    assert Path(last.path) == root / "images/val/a.png"
    assert last.sha256 == file_digest(root / "images/val/a.png")
    truth = read_truth(tmp_path / "out/truth.parquet")
    assert truth.classes_text == classes
    (mask,) = truth.rows
    assert (mask.image_id, mask.split) == ("val/a.png", "val")
    assert Path(mask.mask_path) == root / "masks/val/a.png"
    assert mask.mask_sha256 == file_digest(root / "masks/val/a.png")


def test_the_image_table_knows_nothing_of_masks(root, tmp_path):
    prepare(params(root), tmp_path / "one")
    paint_mask(root / "masks/val/a.png", value=9)
    paint_mask(root / "masks/train/a.png")
    prepare(params(root), tmp_path / "two")
    images = [(tmp_path / out / "images.parquet").read_bytes() for out in ("one", "two")]
    truth = [(tmp_path / out / "truth.parquet").read_bytes() for out in ("one", "two")]
    assert images[0] == images[1]
    assert truth[0] != truth[1]


def test_a_folder_inside_the_project_is_recorded_relative(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, table = prepare(params("./photos/"), tmp_path / "out")
    assert table.rows[0].path == "photos/images/train/a.png"


def test_scenes_are_recorded_where_they_will_lie(tmp_path):
    pytest.importorskip("pipeline.data.scenes")
    out = tmp_path / ".prepared.tmp-x"
    counts, table = prepare(params("data/raw", source="scenes"), out)
    assert counts == PrepareCounts(images=5, rejected=0, leaked=0, masks=5, per_split={"train": 3, "val": 2})
    for row, mask in zip(table.rows, read_truth(out / "truth.parquet").rows, strict=True):
        assert row.path.startswith("data/prepared/images/")
        assert file_digest(out / Path(row.path).relative_to(FINAL)) == row.sha256
        assert file_digest(out / Path(mask.mask_path).relative_to(FINAL)) == mask.mask_sha256
        assert (row.width, row.height) == (64, 32)


def test_unusable_images_are_set_aside_with_a_reason(root, tmp_path, caplog):
    train = root / "images/train"
    whole = paint(train / "d.png", 9).read_bytes()
    (train / "d.png").write_bytes(whole[: len(whole) // 2])
    (train / "e.jpg").write_bytes(b"")
    (train / "f.jpg").write_bytes(b"<html>not found</html>")
    (train / "g.jpg").symlink_to("nowhere")
    paint(train / "h.png", 10, (7, 40))
    paint(train / "i.png", 11, (101, 100))
    paint_mask(root / "masks/train/d.png", (5, 5))  # what it would be compared with is not known
    counts, table = prepare(params(root, max_bad_fraction=0.6), tmp_path / "out")
    assert (counts.images, counts.rejected, counts.masks) == (10, 6, 1)
    reasons = {row.image_id[-5]: row for row in table.rows if row.verdict != "ok"}
    assert {key: row.verdict.split(" (")[0] for key, row in reasons.items()} == {
        "d": "truncated",
        "e": "empty file",
        "f": "not an image",
        "g": "unreadable",
        "h": "too small",
        "i": "too many pixels",
    }
    assert all((row.width, row.height) == (0, 0) for row in reasons.values())
    assert sum("rejected:" in record.getMessage() for record in caplog.records) == 6
    with pytest.raises(InputError, match=r"6 of 10 images \(60.0%\).*max_bad_fraction 0.59") as caught:
        prepare(params(root, max_bad_fraction=0.59), tmp_path / "out")
    assert "f.jpg: not an image" in str(caught.value)


def test_only_the_first_ten_unusable_images_are_listed(root, tmp_path, caplog):
    for number in range(30):
        (root / f"images/train/x{number:02d}.jpg").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        prepare(params(root, max_bad_fraction=0.5), tmp_path / "out")
    assert str(caught.value).count("empty file") == 10
    assert "x09.jpg" in str(caught.value)
    prepare(params(root, max_bad_fraction=1.0), tmp_path / "out")
    assert caplog.records[-1].getMessage().startswith("rejected: 20 more")


def test_without_a_train_image_nothing_is_written(tmp_path):
    paint(tmp_path / "photos/images/val/a.png", 0)
    with pytest.raises(InputError, match=r"no usable image of split train \(splits found: val\)"):
        prepare(params(tmp_path / "photos"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mask_that_does_not_fit_stops_the_stage(root, tmp_path):
    paint_mask(root / "masks/train/b.png", (40, 30))
    with pytest.raises(InputError, match=r"masks/train/b.png: the mask is 30 x 40.*40 x 30"):
        prepare(params(root), tmp_path / "out")


def test_a_mask_is_compared_with_the_upright_image(root, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / "images/train/turned.jpg", exif=exif)
    paint_mask(root / "masks/train/turned.png", (40, 30))
    counts, table = prepare(params(root), tmp_path / "out")
    assert counts.masks == 2
    assert [(row.width, row.height) for row in table.rows if "turned" in row.image_id] == [(30, 40)]


def test_images_of_train_in_another_split_are_counted(root, tmp_path, caplog):
    (root / "images/val/copy.png").write_bytes((root / "images/train/b.png").read_bytes())
    (root / "images/train/copy.png").write_bytes((root / "images/train/c.png").read_bytes())
    counts, _ = prepare(params(root), tmp_path / "out")
    assert counts.leaked == 1
    assert any("val/copy.png" in r.getMessage() and "train/b.png" in r.getMessage() for r in caplog.records)


def test_wrong_classes_stop_the_stage_before_any_training(root, tmp_path):
    (root / "classes.json").write_text('{"classes": []}')
    with pytest.raises(InputError, match=r"classes.json"):
        prepare(params(root), tmp_path / "out")
    (root / "classes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"classes.json: cannot be read as UTF-8"):
        prepare(params(root), tmp_path / "out")


def test_files_of_another_number_of_channels_are_named_with_the_key(tmp_path):
    for number, channels in enumerate((4, 4, 5)):
        (tmp_path / "photos").mkdir(exist_ok=True)
        np.save(tmp_path / f"photos/{number}.npy", np.zeros((30, 40, channels), np.uint16))
    paint(tmp_path / "photos/x.png", 0)
    with pytest.raises(InputError, match=r"2 of 4 images \(50.0%\) cannot be used") as caught:
        prepare(params(tmp_path / "photos", channels=4), tmp_path / "out")
    assert "2.npy: 5 channels, but data.channels is 4" in str(caught.value)
    assert "x.png: 3 channels, but data.channels is 4" in str(caught.value)
    counts, table = prepare(params(tmp_path / "photos", channels=4, max_bad_fraction=0.5), tmp_path / "out")
    assert counts.rejected == 2
    assert table.channels == 4
    with pytest.raises(InputError, match="3 of 4 images") as caught:
        prepare(params(tmp_path / "photos"), tmp_path / "out")
    assert "0.npy: 4 channels, but data.channels is 3" in str(caught.value)


def test_values_that_are_not_finite_are_named(tmp_path):
    (tmp_path / "photos").mkdir()
    np.save(tmp_path / "photos/a.npy", np.full((30, 40, 2), np.nan))
    np.save(tmp_path / "photos/b.npy", np.zeros((30, 40, 2)))
    with pytest.raises(InputError, match=r"a\.npy: values that are not finite \(NaN or infinity\)"):
        prepare(params(tmp_path / "photos", channels=2), tmp_path / "out")


def test_values_of_different_types_stop_the_stage(tmp_path):
    (tmp_path / "photos").mkdir()
    np.save(tmp_path / "photos/a.npy", np.zeros((30, 40, 2), np.uint16))
    np.save(tmp_path / "photos/b.npy", np.zeros((30, 40, 2), np.float32))
    with pytest.raises(InputError, match=r"b\.npy holds float32 values, but a\.npy uint16"):
        prepare(params(tmp_path / "photos", channels=2), tmp_path / "out")


def test_frames_of_many_channels_are_scaled_by_the_train_images(tmp_path):
    rng = np.random.default_rng(0)
    for split, top in (("train", 1000), ("val", 4000)):
        (tmp_path / "photos/images" / split).mkdir(parents=True)
        np.save(tmp_path / "photos/images" / split / "a.npy", rng.integers(0, top, (32, 32, 2), dtype=np.uint16))
    _, table = prepare(params(tmp_path / "photos", channels=2), tmp_path / "out")
    train, val = (read_frame(row, table) for row in table.rows)
    assert train.shape == val.shape == (2, 32, 32)
    assert 110 < train.mean() < 145
    assert (val == 255).mean() > 0.7  # beyond what train has


def test_the_ignored_value_of_masks_is_told(root, tmp_path):
    paint_mask(root / "masks/train/a.png", value=0)
    prepare(params(root, ignore_index=0), tmp_path / "out")
    truth = read_truth(tmp_path / "out/truth.parquet")
    assert (truth.classes_text, truth.ignore_index) == (None, 0)
    (root / "classes.json").write_text('{"classes": [{"id": 0, "name": "sky"}]}')
    with pytest.raises(InputError, match=r'data\.ignore_index: 0 is the mask value of the class "sky"'):
        prepare(params(root, ignore_index=0), tmp_path / "out")


def test_the_draw_depends_on_seed_and_ids_only():
    sources = [SourceImage(f"{split}/{n:03d}", split, Path("x"), None) for split in ("train", "val") for n in range(50)]
    drawn = draw_images(sources, 7, seed=0)
    assert [sum(source.split == split for source in drawn) for split in ("train", "val")] == [7, 7]
    assert drawn == sorted(drawn, key=lambda source: source.image_id)
    assert draw_images(sources[::-1], 7, seed=0) == drawn
    assert draw_images(sources, 7, seed=1) != drawn
    assert draw_images([s for s in sources if s.split == "val"], 7, seed=0) == drawn[7:]
    assert draw_images(sources, 0, seed=0) == sources
    assert draw_images(sources, 50, seed=0) == sources


def test_the_limit_is_applied(root, tmp_path):
    counts, table = prepare(params(root, limit=2), tmp_path / "out")
    assert counts.per_split == {"train": 2, "val": 1}
    assert len(table.rows) == 3


@pytest.mark.parametrize("root", ["../photos", "data/../../photos", "..", "~/photos", " "])
def test_a_relative_root_outside_the_project_is_refused(root):
    with pytest.raises(ParamsError, match=r"data.root: .*absolute path.*--temp") as caught:
        resolve_root(root)
    assert repr(root) in str(caught.value)


def test_roots_that_are_accepted():
    assert resolve_root("./data//raw/") == Path("data/raw")
    assert resolve_root("data/../photos") == Path("photos")
    assert resolve_root("..photos") == Path("..photos")
    assert resolve_root("/data/../photos") == Path("/data/../photos")
