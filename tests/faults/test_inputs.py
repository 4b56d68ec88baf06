"""Rows 5 and 8 to 13: what can be wrong with a folder of images and masks."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.manifest import read_images
from pipeline.data.sources import folder as folder_source
from tests.faults.faulty import encode, make_photos, noise, read_folder, refuse
from tests.graph.project import Project

pytestmark = pytest.mark.graph

IMAGES = "data/prepared/images.parquet"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def ids(project: Project) -> list[str]:
    return [row.image_id for row in read_images(project.root / IMAGES).select(None)]


def test_row_05_a_folder_without_images(project: Project, tmp_path: Path) -> None:
    """The input folder is missing, empty, or holds other files only.

    Exit code 3 with the folder and what was looked for; never an empty success.
    """
    root = tmp_path / "photos"
    read_folder(project, root)
    refuse(project, "prepare", 3, f"{root} does not exist")
    root.mkdir()
    refuse(project, "prepare", 3, f"{root} holds no images", ".jpg, .jpeg, .png", "(no other files)")
    (root / "notes.txt").write_text("x")
    refuse(project, "prepare", 3, "(1 other files were seen, such as 'notes.txt')")
    make_photos(root)
    assert "images 6, rejected 0" in project.stage("prepare")


def test_row_08_odd_sizes(project: Project, photos: Path) -> None:
    """An image of one pixel, a very wide one, one smaller than the frame.

    Set aside below `data.min_side`, and counted; else enlarged and cropped, through all pyramid levels.
    """
    train = photos / "images/train"
    noise(1, (1, 1)).save(train / "pixel.png")
    noise(2, (20, 900)).save(train / "wide.png")
    noise(3, (17, 18)).save(train / "small.png")
    read_folder(project, photos, max_bad_fraction=0.2)
    output = project.stage("prepare")
    assert "pixel.png: too small (1 x 1, shorter side below 16)" in output
    assert "images 9, rejected 1" in output
    assert {"train/wide.png", "train/small.png"} <= set(ids(project))
    assert "bad 0" in project.stage("extract")
    assert "levels 3" in project.stage("cluster")


def test_row_09_masks_that_do_not_fit(project: Project, photos: Path) -> None:
    """A mask of another size than its image.

    Exit code 3, naming the pair and both sizes.
    """
    read_folder(project, photos)
    mask = photos / "masks/val/0.png"
    whole = mask.read_bytes()
    noise(1, (20, 30), 1).save(mask)
    refuse(project, "prepare", 3, f"{mask}: the mask is 30 x 20, but its image {photos}/images/val/0.png is 96 x 64")
    mask.write_bytes(encode(noise(1)))
    refuse(project, "prepare", 3, f"{mask}: the mask is RGB; save it with one channel")
    mask.write_bytes(whole)
    assert "masks 2" in project.stage("prepare")


def test_row_09_palettes_missing_masks_and_unknown_ids(project: Project, photos: Path) -> None:
    """A palette mask, a missing one, and ids that no class has.

    A palette is read as its indices; without a mask an image is not scored; unknown ids are an error (exit code 3), or
    ignored by `evaluate.unknown_ids`.
    """
    mask = photos / "masks/val/0.png"
    values = np.asarray(Image.open(mask))
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.save(mask)
    (photos / "masks/val/1.png").unlink()
    classes = [{"id": 0, "name": "up"}, {"id": 1, "name": "down"}]
    (photos / "classes.json").write_text(json.dumps({"classes": classes}))
    read_folder(project, photos)
    assert "masks 1" in project.stage("prepare")
    project.stage("evaluate")
    evaluation = json.loads((project.root / "data/evaluation/metrics.json").read_text())
    assert evaluation["protocol"]["images"] == 1

    Image.fromarray(values + 7).save(mask)
    project.stage("prepare")
    refuse(project, "evaluate", 3, f"{mask}: ids 7, 8 are not in classes.json; add them there, or set")
    Image.fromarray(np.where(values, 8, 0).astype(np.uint8)).save(mask)
    project.set_params({"evaluate": {"unknown_ids": "ignore"}})
    project.stage("prepare")
    project.stage("evaluate")
    evaluation = json.loads((project.root / "data/evaluation/metrics.json").read_text())
    assert evaluation["protocol"]["pixels"] < 64 * 64


def test_row_10_names(project: Project, tmp_path: Path) -> None:
    """Equal names in several folders, blanks, other scripts, loops of links; then a line break; then names that differ
    by case only.

    Ids are relative POSIX paths, loops are left out with a line; line breaks and collisions are refused, naming both.
    """
    root = make_photos(tmp_path / "photos", masks=False)
    train = root / "images/train"
    for name in ("a/x.png", "b/x.png", "a b/日本 ü.png"):
        (train / name).parent.mkdir(exist_ok=True)
        noise(len(name)).save(train / name)
    (train / "a/loop").symlink_to(train)
    read_folder(project, root)
    assert "this link leads back to a folder above it" in project.stage("prepare")
    assert {"train/a/x.png", "train/b/x.png", "train/a b/日本 ü.png"} <= set(ids(project))
    broken = train / "a/line\nbreak.png"
    noise(7).save(broken)
    refuse(project, "prepare", 3, "the name holds a line break")
    broken.unlink()
    noise(8).save(train / "a/X.png")
    refuse(project, "prepare", 3, f"{train}/a/x.png: its id 'train/a/x.png' differs at most by case", "rename one")
    (train / "a/X.png").unlink()
    project.stage("prepare")


def test_row_11_images_of_train_in_val(project: Project, photos: Path) -> None:
    """The same image in train and in a scored split.

    A warning that names the pair, and the metric `data.leaked`.
    """
    (photos / "images/val/1.png").write_bytes((photos / "images/train/3.png").read_bytes())
    read_folder(project, photos)
    output = project.stage("prepare")
    assert "1 images outside train are also in train" in output
    assert "images/train/3.png" in output
    project.stage("evaluate")
    assert json.loads((project.root / "data/evaluation/metrics.json").read_text())["data"]["leaked"] == 1


def test_row_12_files_that_change_after_prepare(project: Project, photos: Path) -> None:
    """A file that changes or vanishes between `prepare` and a later stage.

    Exit code 3, naming the file; restored, or prepared again, the run goes on.
    """
    read_folder(project, photos)
    project.stage("prepare")
    victim = photos / "images/train/2.png"
    whole = victim.read_bytes()
    victim.write_bytes(encode(noise(77)))
    refuse(project, "extract", 3, f"{victim}: the file has changed since prepare; restore the file, or run")
    victim.unlink()
    refuse(project, "extract", 3, f"{victim}: cannot be read any more since prepare (No such file or directory)")
    victim.write_bytes(whole)
    project.stage("extract")
    project.assert_whole("features")


def test_row_13_the_order_of_the_file_system(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that lists files in any order.

    Sorted by id everywhere, so that the tables are the same bytes.
    """
    expected = folder_source.list_folder(photos)
    listed = Path.iterdir
    for seed in range(5):

        def shuffled(self: Path, seed: int = seed):
            entries = list(listed(self))
            return iter([entries[place] for place in np.random.default_rng(seed).permutation(len(entries))])

        monkeypatch.setattr(Path, "iterdir", shuffled)
        assert folder_source.list_folder(photos) == expected
    # the same files, made in another order, lie in another order on the disk
    moved = tmp_path / "made backwards"
    for path in sorted(photos.rglob("*.png"), reverse=True):
        target = moved / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    assert [image.image_id for image in folder_source.list_folder(moved)] == [image.image_id for image in expected]
