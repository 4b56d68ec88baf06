import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, write_images
from pipeline.errors import InputError, ParamsError, PipelineError
from pipeline.export import export as exporting
from pipeline.export.export import ExportOptions, export_model
from pipeline.export.figures import REQUIRED
from pipeline.export.graph import build_graph
from pipeline.export.onnx_files import open_session, require_onnx, spare_choices, write_onnx
from pipeline.export.parity import run_onnx, run_torch
from pipeline.labels.names import segmentation_by
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.runtime.digests import file_digest
from tests.export.conftest import RESIZE, make_bands, make_photo, make_segmenter, write_photo

ROOT = Path(__file__).parents[2]
EVIL = ["<script>alert(1)</script>", "a\\u0000 [link](http://x)", "| pipe | `code`", '"; import os #']


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, model: Path) -> SimpleNamespace:
    """Prepared images and an evaluation of the model, with names that try to do harm."""
    root = tmp_path_factory.mktemp("project")
    rows = []
    for index in range(12):
        split = "train" if index < 8 else "val"
        path = write_photo(root / f"{index}.png", RESIZE, RESIZE, index)
        rows.append(ImageRow(f"{split}/{index}.png", split, str(path), RESIZE, RESIZE, file_digest(path), "ok"))
    with create_artifact(root / "prepared") as writer:
        writer.notes |= {"params": {"data": {"source": "folder"}}}
        write_images(writer.path / "images.parquet", ImageTable(rows, Frame(RESIZE, "center"), 10**6, 1))
    with create_artifact(root / "evaluation") as writer:
        writer.notes |= {"inputs": {"data/segmenter": file_digest(model / "manifest.json")}}
        metrics = {
            "all": {"miou": 12.34, "pixel_accuracy": 56.78},
            "floors": {"random": {"miou": 1.0}},
            "per_class": {"<b>sky": 1.5, "none": None},
        }
        write_json(writer.path / "metrics.json", metrics)
        write_json(writer.path / "protocol.json", {"split": "val", "match_rule": "hungarian: *one* to one"})
    names = root / "names.yaml"
    names.write_text(
        yaml.safe_dump({"segmentation": segmentation_by(open_artifact(model)), "names": dict(enumerate(EVIL))})
    )
    return SimpleNamespace(root=root, model=model, names=names, out=root / "export")


def run(project: SimpleNamespace, out: Path | None = None, evaluation: Path | None = None, **options) -> str:
    given = {"output": "labels", "names": project.names, "int8": True, "calibration": 4, "images": 0, "keep": False}
    settings = ExportOptions(**{**given, **options})
    evaluation = evaluation or project.root / "evaluation"
    return export_model(project.model, project.root / "prepared", evaluation, out or project.out, settings)


@pytest.fixture(scope="module")
def exported(project: SimpleNamespace) -> Path:
    # a network of random weights hangs on every rounding, so what 8 bits may change is not judged here
    text = run(project, keep=True)
    assert "| model-int8.onnx |" in text
    return project.out


def test_fp32_labels_as_the_trained_model_for_any_batch_and_size(exported, segmenter):
    session, reference = run_onnx(exported / "model.onnx", 1), run_torch(segmenter)
    for count, height, width in [(1, 64, 64), (3, 32, 96), (2, 160, 128), (1, 32, 32)]:
        images = np.stack([make_photo(height, width, seed).transpose(2, 0, 1) for seed in range(count)])
        found = session(images)
        assert found.shape == (count, height, width)
        assert (found == reference(images)).mean() > 0.999


def test_the_file_is_valid_and_says_what_it_takes(exported):
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    session = open_session(exported / "model.onnx", 1)
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape[1]) == ("images", "tensor(uint8)", 3)
    assert not any(isinstance(side, int) for side in (taken.shape[0], *taken.shape[2:]))
    notes = json.loads(session.get_modelmeta().custom_metadata_map["fs4"])
    assert notes["names"] == EVIL
    assert notes["resize"] == RESIZE


def test_a_network_of_other_channels_is_exported_too(tmp_path):
    segmenter = make_segmenter(make_bands(4), enabled=False)
    write_onnx(build_graph(segmenter, "labels", 4), tmp_path / "model.onnx", channels=4, notes={})
    images = np.stack([make_photo(64, 96, seed, 4).transpose(2, 0, 1) for seed in range(3)])
    assert (run_onnx(tmp_path / "model.onnx", 1)(images) == run_torch(segmenter)(images)).mean() > 0.999


def test_names_are_in_the_notes_alone(exported):
    for name in ("model.onnx", "model-int8.onnx"):
        model = onnx.load(exported / name)
        (notes,) = [entry.value for entry in model.metadata_props if entry.key == "fs4"]
        assert notes.isascii()
        del model.metadata_props[:]
        assert b"<script>" not in model.SerializeToString()
        assert not [tensor.name for tensor in model.graph.initializer if tensor.external_data]


def test_int8_is_smaller_and_close(exported, segmenter):
    files = {name: (exported / name).stat().st_size for name in ("model.onnx", "model-int8.onnx")}
    assert files["model-int8.onnx"] < 0.5 * files["model.onnx"]
    images = np.stack([make_photo(64, 64, seed).transpose(2, 0, 1) for seed in range(4)])
    assert (run_onnx(exported / "model-int8.onnx", 1)(images) == run_torch(segmenter)(images)).mean() > 0.8


def test_figures_are_complete(exported):
    figures = json.loads((exported / "figures.json").read_text())
    assert figures["images"] == 4
    assert figures["pixels"] == 4 * RESIZE**2
    assert figures["split"] == "val"
    assert figures["latency_of"] == "one image of 64 x 64 px"
    assert set(figures["models"]) == {"torch", "model.onnx", "model-int8.onnx"}
    assert all(len(entry["ms"]) == 2 and min(entry["ms"]) > 0 for entry in figures["models"].values())
    assert figures["models"]["model.onnx"]["agreement"] >= REQUIRED["model.onnx"]
    assert sorted(path.name for path in exported.iterdir()) == [
        "MODEL_CARD.md",
        "figures.json",
        "manifest.json",
        "model-int8.onnx",
        "model.onnx",
    ]


def test_the_card_tells_what_matters_and_escapes_what_it_did_not_write(exported):
    card = (exported / "MODEL_CARD.md").read_text("utf-8")
    assert "None: neither labels" in card
    assert "8 train, 4 val" in card
    assert "on 4 images of split val (" in card
    assert "| mIoU, % | 12.3 |" in card
    assert "<" not in card
    assert "](http" not in card
    assert "://" not in card
    assert re.search(r"^2\. \\\| pipe \\\| \\`code\\`$", card, re.MULTILINE)
    assert r"| &lt;b&gt;sky | 1.5 |" in card
    assert r"| none | – |" in card


def test_the_card_keeps_silent_about_another_training(exported, project, tmp_path):
    from pipeline.export.card import write_card

    with create_artifact(tmp_path / "evaluation") as writer:
        writer.notes |= {"inputs": {"data/segmenter": "0" * 64}}
        write_json(writer.path / "metrics.json", {"all": {"miou": 99.0}})
    notes = json.loads(open_session(exported / "model.onnx", 1).get_modelmeta().custom_metadata_map["fs4"])
    figures = json.loads((exported / "figures.json").read_text())
    for folder, text in (("evaluation", "of another training"), ("gone", "Not evaluated.")):
        model = open_artifact(project.model)
        write_card(tmp_path / "card.md", model, project.root / "prepared", tmp_path / folder, notes, figures)
        assert text in (tmp_path / "card.md").read_text()
        assert "99.0" not in (tmp_path / "card.md").read_text()


def test_the_example_needs_neither_torch_nor_this_project(exported, tmp_path):
    write_photo(tmp_path / "upright.jpg", 100, 150, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, as the camera was held upright
    with Image.open(tmp_path / "upright.jpg") as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif)
    script = ROOT / "examples/onnx_segment.py"
    assert len(script.read_text().splitlines()) <= 40
    code = (
        f"import runpy, sys\nrunpy.run_path({str(script)!r}, run_name='__main__')\n"
        "assert not {'torch', 'pipeline'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-I", "-c", code, str(exported / "model.onnx"), "photo.jpg", "labels.png"]
    counts, shares = segment_by_example(command, tmp_path)
    assert shares == pytest.approx((100 * counts / counts.sum()).tolist(), abs=0.06)
    model = onnx.load(exported / "model.onnx")  # the same with one name for the first and the last cluster
    (notes,) = [entry for entry in model.metadata_props if entry.key == "fs4"]
    notes.value = json.dumps(json.loads(notes.value) | {"names": ["a", "b", "c", "a"], "named_ids": [0, 1, 2, 0]})
    onnx.save(model, tmp_path / "merged.onnx")
    merged, shares = segment_by_example([*command[:-3], str(tmp_path / "merged.onnx"), *command[-2:]], tmp_path)
    assert merged.tolist() == [counts[0] + counts[3], counts[1], counts[2], 0]
    assert shares == pytest.approx((100 * merged / merged.sum()).tolist()[:3], abs=0.06)


def segment_by_example(command: list[str], folder: Path) -> tuple[np.ndarray, list[float]]:
    """Pixels of every label in the PNG that is written, and the shares in percent that are printed."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with Image.open(folder / "labels.png") as picture:
        assert picture.size == (150, 100)
        counts = np.bincount(np.asarray(picture).ravel(), minlength=4)
    return counts, [float(line.split("%")[0]) for line in ended.stdout.splitlines()]


@pytest.fixture
def no_writing(monkeypatch, exported):
    """The file that was exported already, in place of half a minute for another."""

    def copy(graph, path, **_):
        path.write_bytes((exported / "model.onnx").read_bytes())

    monkeypatch.setattr(exporting, "write_onnx", copy)


def test_clusters_of_one_name_share_an_id_in_the_notes(exported, project, tmp_path, monkeypatch):
    kept = []

    def copy(graph, path, *, notes, **_):
        kept.append(notes)
        path.write_bytes((exported / "model.onnx").read_bytes())

    monkeypatch.setattr(exporting, "write_onnx", copy)
    content = yaml.safe_load(project.names.read_text()) | {"names": dict(enumerate(["sky", "road", "sky", "car"]))}
    names = tmp_path / "names.yaml"
    names.write_text(yaml.safe_dump(content))
    run(project, tmp_path / "named", int8=False, names=names)
    run(project, tmp_path / "unnamed", int8=False, names=None)
    found = [(notes["names"][2], notes["named_ids"]) for notes in kept]
    assert found == [("sky", [0, 1, 0, 2]), ("cluster 2", [0, 1, 2, 3])]


@pytest.mark.usefixtures("no_writing")
def test_a_file_that_labels_otherwise_is_refused_with_its_figures(project, tmp_path, monkeypatch):
    other = dict.fromkeys(REQUIRED, 100.1)
    monkeypatch.setattr("pipeline.export.export.REQUIRED", other)
    with pytest.raises(PipelineError, match=r"model\.onnx: [\d.]+ % \(required 100\.1 %\).*--keep-failed"):
        run(project, tmp_path / "out", int8=False)
    assert not (tmp_path / "out").exists()
    text = run(project, tmp_path / "out", int8=False, keep=True)
    assert "too few pixels" in text
    assert json.loads((tmp_path / "out/figures.json").read_text())["passed"] is False
    assert not (tmp_path / "out/model-int8.onnx").exists()


@pytest.mark.usefixtures("no_writing")
def test_nodes_stay_in_float_where_8_bits_are_too_few(project, tmp_path, monkeypatch):
    tried = []

    def quantise(source, target, frames, *, spared):
        tried.append(len(spared))
        target.write_bytes(source.read_bytes() if len(tried) == 2 else b"")

    def run_file(path, threads):
        run = run_onnx(project.out / "model.onnx", threads)
        return run if path.stat().st_size else lambda images: run(images) + 1

    monkeypatch.setattr(exporting, "quantise", quantise)
    monkeypatch.setattr(exporting, "run_onnx", run_file)
    monkeypatch.setattr("pipeline.export.parity.run_onnx", run_file)
    run(project, tmp_path / "out")
    head = len(spare_choices(onnx.load(project.out / "model.onnx"))[1])
    assert tried == [0, head]
    assert json.loads((tmp_path / "out/figures.json").read_text())["int8_nodes_in_fp32"] == head > 0


@pytest.mark.usefixtures("no_writing")
def test_the_images_that_were_scored_are_compared(project, tmp_path):
    with create_artifact(tmp_path / "evaluation") as writer:
        writer.notes |= {"inputs": {"data/segmenter": file_digest(project.model / "manifest.json")}}
        write_json(writer.path / "metrics.json", {})
        write_json(writer.path / "protocol.json", {"split": "train+val"})
    run(project, tmp_path / "out", tmp_path / "evaluation", int8=False)
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert (figures["split"], figures["images"]) == ("train+val", 12)


def test_options_and_places_are_checked_first(project, tmp_path, monkeypatch):
    with pytest.raises(ParamsError, match="--output masks: give labels or logits"):
        run(project, output="masks")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(InputError, match="not made by `fs4 export`"):
        run(project, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript is not installed.*pip install -e '.\[onnx\]'"):
        require_onnx()


def test_a_network_that_no_graph_can_hold_is_named(segmenter, tmp_path):
    graph = build_graph(segmenter, "labels")
    forward = graph.segmenter.forward
    graph.segmenter.forward = lambda images: forward(images[: int(images.sum())])
    with pytest.raises(InputError, match="resnet18: this network cannot be written as ONNX"):
        write_onnx(graph, tmp_path / "x.onnx", channels=3, notes={})
