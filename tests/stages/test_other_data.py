"""The whole graph on images that are not RGB photographs: many channels, tiles. Its scores mean nothing."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from pipeline.data.manifest import ImageTable, read_images, read_truth
from pipeline.data.windows import split_window
from pipeline.params.presets import merge_overrides
from pipeline.runtime import stage
from pipeline.yaml_reader import read_yaml

ROOT = Path(__file__).parents[2]
STAGES = ("prepare", "pretrain", "extract", "cluster", "train", "evaluate", "report")
TINY = {
    "data": {"source": "folder", "max_bad_fraction": 0.0},
    "pretrain": {"epochs": 1, "channels": 16, "batch_size": 4, "view_size": 32},
    "extract": {"levels": [1, 2]},
    "pgg": {"k": 3},
    "train": {"k": 3, "epochs": 1, "batch_size": 4, "min_used": 0.0, "max_share": 1.0, "min_effective_rank": 0.0},
    "evaluate": {"gallery": 2},
    "run": {"device": "cpu", "threads": 1, "workers": 0},
}
Run = Callable[[dict[str, Any]], ImageTable]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs all stages in an empty project, and gives the table of images."""
    monkeypatch.chdir(tmp_path)
    # this process has the code of the checkout, not of the folder that it works in
    monkeypatch.setattr(stage, "_assert_local_code", lambda: None)

    def run_all(data: dict[str, Any], **others: Any) -> ImageTable:
        params = merge_overrides(read_yaml(ROOT / "params.yaml"), read_yaml(ROOT / "presets/tiny.yaml"))
        params = merge_overrides(merge_overrides(params, TINY), {"data": data, **others})
        Path("params.yaml").write_text(yaml.safe_dump(params), "utf-8")
        for name in STAGES:
            import_module(f"stages.{name}").main()
        return read_images(Path("data/prepared/images.parquet"))

    return run_all


def blobs(seed: int, height: int, width: int) -> np.ndarray:
    """Ids 0 to 2, (height, width)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((height, width), np.uint8)
    for place in range(1, 3):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ids[np.hypot(y - cy, x - cx) < min(height, width) / 3] = place
    return ids


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("data/evaluation/metrics.json").read_text("utf-8"))
    return found


def test_a_folder_of_four_channels_goes_through_the_whole_graph(run, tmp_path):
    spectra = np.array([[900, 2000, 400, 3000], [2100, 500, 2500, 900], [300, 300, 3000, 2000]])
    for number in range(8):
        split = "train" if number < 6 else "val"
        ids = blobs(number, 40, 40)
        noise = np.random.default_rng(number).normal(0, 100, (40, 40, 4))
        for folder, name in (("images", f"{number}.tif"), ("masks", f"{number}.png")):
            (tmp_path / "photos" / folder / split).mkdir(parents=True, exist_ok=True)
            path = tmp_path / "photos" / folder / split / name
            if folder == "masks":
                Image.fromarray(ids).save(path)
            else:
                pixels = np.clip(spectra[ids] + noise, 0, 65535).astype(np.uint16)
                tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    data = {"root": str(tmp_path / "photos"), "channels": 4, "resize": 32}
    table = run(data, train={"cae": {"appearance": "features_rgb"}})
    assert table.bands is not None
    assert table.bands.values == "uint16"
    assert all(300 < high - low < 4000 for low, high in zip(table.bands.low, table.bands.high, strict=True))
    backbone = json.loads(Path("data/backbone/backbone.json").read_text("utf-8"))
    assert backbone["architecture"]["inputs"]["mean"] == list(table.bands.mean)
    found = metrics()
    assert found["all"]["miou"] > 0
    assert found["floors"]["colour_position_kmeans"]["miou"] > 60  # the channels alone tell these classes apart
    picture = np.array(Image.open("data/evaluation/gallery/00-image.png"))
    assert picture.shape == (32, 32, 3)
    assert picture.std() > 20
    assert "They have 4 channels; pictures show the first three." in Path("data/report/index.html").read_text("utf-8")

    params = read_yaml(Path("params.yaml"))
    small = {"finetune": {"fractions": [1.0], "seeds": 1, "head_steps": 1, "steps": 1}, "probe": {"kinds": ["linear"]}}
    Path("params.yaml").write_text(yaml.safe_dump(merge_overrides(params, small)), "utf-8")
    import_module("stages.probe").main("segmenter")
    import_module("stages.finetune").main("backbone")
    assert Path("data/finetune/backbone/curve.json").is_file()


def test_a_folder_of_large_images_goes_through_the_whole_graph_in_tiles(run, tmp_path):
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]], np.uint8)
    for number, split in enumerate(("train", "train", "val")):
        ids = blobs(number, 80, 112)
        for folder, pixels in (("images", colours[ids]), ("masks", ids)):
            (tmp_path / "photos" / folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / split / f"{number}.png")
    table = run({"root": str(tmp_path / "photos"), "tile": 32, "tile_overlap": 8, "resize": 32})
    assert table.bands is None
    places = {row.image_id.rsplit("/", 1)[1] for row in table.rows}
    assert places == {f"y{y:05d}x{x:05d}.png" for y in (0, 24, 48) for x in (0, 24, 48, 72, 80)}
    assert len(table.rows) == 3 * 15
    assert {(row.width, row.height) for row in table.rows} == {(32, 32)}
    owned = sum(
        32 * 32 if part.own is None else (part.own[0].stop - part.own[0].start) * (part.own[1].stop - part.own[1].start)
        for row in read_truth(Path("data/prepared/truth.parquet")).rows
        if row.split == "val" and (part := split_window(row.mask_path)[1])
    )
    confusion = json.loads(Path("data/evaluation/confusion.json").read_text("utf-8"))
    # every pixel of the one val image is scored once, however many tiles show it
    assert np.sum(confusion["matrix"]) == owned == 80 * 112
    assert metrics()["floors"]["colour_position_kmeans"]["miou"] > 90
    protocol = json.loads(Path("data/evaluation/protocol.json").read_text("utf-8"))
    assert protocol["tiles"].startswith("what several tiles show is scored once")
    assert "y00000x00000.png" in Path("data/report/index.html").read_text("utf-8")
