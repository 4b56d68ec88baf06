import csv
import io
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO

from pipeline.errors import InputError, ParamsError, PipelineError
from pipeline.export.loading import LoadedSegmenter, load_segmenter
from pipeline.export.outputs import plain
from pipeline.export.predict import predict_images
from pipeline.labels.names import segmentation_by
from pipeline.runtime.artifacts import create_artifact, open_artifact
from tests.export.conftest import K, make_bands, make_photo, make_segmenter, save, write_photo
from tests.test_cli import fs4


@pytest.fixture(scope="module")
def loaded(model: Path) -> LoadedSegmenter:
    return load_segmenter(model, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "in/a/1.png", 64, 96, 0)
    write_photo(tmp_path / "in/b/1.png", 128, 192, 1)
    write_photo(tmp_path / "in/b/2.png", 90, 40, 2)
    return tmp_path / "in"


def predict(loaded: LoadedSegmenter, *arguments: str, **options) -> str:
    given = {"names": None, "batch_size": 2, "max_pixels": 10**6, "overlays": True, **options}
    return predict_images(arguments or ("in",), loaded, Path("out"), **given)


def read_table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def write_names(loaded: LoadedSegmenter, *names: str) -> Path:
    content = {"segmentation": segmentation_by(loaded.artifact), "names": dict(enumerate(names))}
    Path("names.yaml").write_text(yaml.safe_dump(content))
    return Path("names.yaml")


# of pycocotools' own arrays, under NumPy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_file_says_the_same(loaded):
    assert predict(loaded) == f"3 images segmented into {K} classes in out"
    table, coco = read_table("out/areas.csv"), COCO("out/coco.json")
    assert len(coco.getImgIds()) == 3
    for entry in coco.loadImgs(coco.getImgIds()):
        labels = loaded.label(Path("in", entry["file_name"]))
        with Image.open(Path("out", entry["label_map"])) as picture:
            assert picture.mode == "P"
            assert (np.asarray(picture) == labels).all()
        rows = [row for row in table if row["image"] == entry["file_name"]]
        assert [int(row["pixels"]) for row in rows] == np.bincount(labels.ravel(), minlength=K).tolist()
        assert sum(float(row["percent"]) for row in rows) == pytest.approx(100, abs=0.01)
        painted = np.full(labels.shape, -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]])):
            mask = coco.annToMask(annotation).astype(bool)
            assert (painted[mask] == -1).all()
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == masks.toBbox(masks.encode(np.asfortranarray(mask.view(np.uint8)))).tolist()
            painted[mask] = annotation["category_id"]
        assert (painted == labels).all()
        with Image.open(Path("out/overlays", Path(entry["label_map"]).relative_to("labels"))) as picture:
            assert picture.size == (entry["width"], entry["height"])
    assert open_artifact(Path("out")).manifest["made_by"] == "fs4 predict"


def test_it_says_how_far_it_is(loaded, caplog, monkeypatch):
    monkeypatch.setattr("pipeline.export.progress.EVERY", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no terminal, however the tests are run
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)  # another test may have started logging
    Path("in/b/0.png").write_bytes(b"no image")
    with caplog.at_level(logging.INFO, logger="fs4"), pytest.raises(InputError, match="1 of 4"):
        predict(loaded, batch_size=1)
    told = [line.split(",")[0] for line in caplog.messages if "images/s" in line]
    assert told == ["1 of 4 images", "2 of 4 images", "3 of 4 images"]


def test_the_size_of_a_batch_changes_nothing(loaded):
    predict(loaded, batch_size=1)
    alone = Path("out/areas.csv").read_bytes()
    predict(loaded, batch_size=8)
    assert Path("out/areas.csv").read_bytes() == alone


def test_names_merge_clusters_and_stay_harmless(loaded):
    names = write_names(loaded, '=HYPERLINK("x")', "road", "road", "../<b>")
    predict(loaded, names=names, overlays=False)
    legend = json.loads(Path("out/legend.json").read_text())
    assert [entry["clusters"] for entry in legend] == [[0], [1, 2], [3]]
    assert {row["name"] for row in read_table("out/areas.csv")} == {'\'=HYPERLINK("x")', "road", "../<b>"}
    with Image.open("out/labels/a/1.png") as picture:
        assert (np.asarray(picture) == np.array([0, 1, 1, 2])[loaded.label("in/a/1.png")]).all()
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "areas.csv",
        "classes.json",
        "coco.json",
        "labels",
        "legend.json",
        "manifest.json",
    ]


def test_names_of_another_model_are_refused(loaded):
    write_names(loaded, *"abcd")
    Path("names.yaml").write_text(Path("names.yaml").read_text().replace(segmentation_by(loaded.artifact), "0" * 16))
    with pytest.raises(ParamsError, match="segmentation"):
        predict(loaded, names=Path("names.yaml"))
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_no_cell_is_a_formula(text):
    assert plain(text) == f"'{text}"
    assert plain(f"a{text}") == f"a{text}"


def test_file_names_that_are_formulas_are_harmless_too(loaded):
    write_photo(Path("in/=cmd.png"))
    predict(loaded, "in/=cmd.png")
    assert {row["image"] for row in read_table("out/areas.csv")} == {"'=cmd.png"}
    assert Path("out/labels/=cmd.png").is_file()


def test_broken_files_are_listed_and_the_others_done(loaded):
    Path("in/b/0.png").write_bytes(b"no image")
    Path("in/=0.png").write_bytes(b"")
    with pytest.raises(InputError, match="2 of 5 images could not be segmented") as caught:
        predict(loaded)
    assert "b/0.png: not an image" in str(caught.value)
    assert read_table("out/failed.csv") == [
        {"image": "'=0.png", "reason": "empty file"},
        {"image": "b/0.png", "reason": "not an image"},
    ]
    assert sorted(path.name for path in Path("out/labels").rglob("*.png")) == ["1.png", "1.png", "2.png"]
    assert len(COCO("out/coco.json").getImgIds()) == 3
    with pytest.raises(InputError, match=r"1 of 1 .*; nothing was written"):
        predict_images(["in/b/0.png"], loaded, Path("new"), names=None, batch_size=1, max_pixels=10**6, overlays=True)
    assert not Path("new").exists()


def test_too_large_images_are_broken_ones(loaded):
    with pytest.raises(InputError, match="too many pixels"):
        predict(loaded, max_pixels=10_000)
    assert len(read_table("out/failed.csv")) == 1


def test_what_others_made_stays(loaded):
    write_photo(Path("out/mine.png"))
    with pytest.raises(InputError, match="not made by `fs4 predict`"):
        predict(loaded)
    assert [path.name for path in Path("out").iterdir()] == ["mine.png"]


def test_own_results_are_replaced_unless_something_was_added(loaded):
    predict(loaded)
    predict(loaded, "in/a/1.png")
    assert [path.name for path in Path("out/labels").iterdir()] == ["1.png"]
    Path("out/notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt: not listed"):
        predict(loaded)


def test_a_finished_output_takes_nothing_in(loaded):
    with create_artifact(Path("data/evaluation")) as writer:
        (writer.path / "x.json").write_text("{}")
    options = {"names": None, "batch_size": 1, "max_pixels": 10**6, "overlays": True}
    with pytest.raises(InputError, match="lies in the finished output"):
        predict_images(["in"], loaded, Path("data/evaluation/out"), **options)


def test_an_error_on_the_way_leaves_nothing(loaded, monkeypatch):
    monkeypatch.setattr(LoadedSegmenter, "label_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(loaded)
    assert sorted(path.name for path in Path().iterdir()) == [".out.lock", "in"]


def test_the_command_says_so_by_its_exit_code(model, tmp_path):
    Path("in/b/0.png").write_bytes(b"no image")
    ended = fs4(tmp_path, "predict", "in/b", "--out", "out", "--model", str(model), "--device", "cpu")
    assert ended.returncode == 3
    assert "1 of 3 images could not be segmented; the others are in out" in ended.stderr


@pytest.mark.parametrize("most", [0, 1])
def test_images_that_are_too_many_for_the_device_come_alone(loaded, monkeypatch, most):
    label_batch, seen = loaded.label_batch, []

    def refuse(scaled: torch.Tensor, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
        seen.append(len(scaled))
        if len(scaled) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return label_batch(scaled, sizes)

    for number in (3, 4):
        write_photo(Path(f"in/a/{number}.png"), 64, 96, number)
    monkeypatch.setattr(loaded, "label_batch", refuse)
    if most:
        assert predict(loaded, "in/a").startswith("3 images segmented")
        assert seen == [2, 1, 1, 1]
    else:
        with pytest.raises(PipelineError, match=r"with a single image; give a smaller --window than 512, or --device"):
            predict(loaded, "in/a")
        assert not Path("out").exists()


def test_images_of_many_channels_are_segmented_and_shown(tmp_path):
    bands = make_bands(4)
    segmenter = load_segmenter(save(make_segmenter(bands), tmp_path / "model"), device="cpu")
    for number, name in enumerate(["1", "2"]):
        scaled = np.array(bands.high) / 255 * make_photo(64, 96, number, 4)
        np.save(tmp_path / f"in/{name}.npy", scaled.astype(np.uint16))
    Path("in/bomb.npy").write_bytes(Path("in/1.npy").read_bytes()[:200])
    with pytest.raises(InputError, match="4 of 6 images could not be segmented"):
        predict(segmenter)
    assert sorted(row["image"] for row in read_table("out/failed.csv")) == [
        "a/1.png",
        "b/1.png",
        "b/2.png",
        "bomb.npy",
    ]
    for name in ("1", "2"):
        with Image.open(f"out/labels/{name}.png") as picture:
            assert (np.asarray(picture) == segmenter.label(f"in/{name}.npy")).all()
        with Image.open(f"out/overlays/{name}.png") as picture:
            assert (picture.size, picture.mode) == ((96, 64), "RGB")
