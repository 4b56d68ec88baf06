import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, write_images
from pipeline.errors import InputError, ParamsError
from pipeline.features.shards import shard_name, write_shard
from pipeline.report.suggestion import FEATURES, IMAGES, OUT, USUAL, parse_ks, suggest_k
from pipeline.runtime.artifacts import create_artifact, open_artifact
from tests.run_params import run_params

RUN = run_params()
TYPES, D = 5, 12


def write_project(images: int) -> None:
    """Features with five kinds of cells at level 4 in train images, and one kind in the val images."""
    rng = np.random.default_rng(0)
    ids = [f"{n:03d}.png" for n in range(images + 5)]
    splits = ["train"] * images + ["val"] * 5
    rows = [ImageRow(name, split, name, 32, 32, "", "ok") for name, split in zip(ids, splits, strict=True)]
    IMAGES.parent.mkdir(parents=True)
    write_images(IMAGES, ImageTable(rows, Frame(32, "center"), 10**6, 1))
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0]
    with create_artifact(FEATURES) as writer:
        writer.notes["params"] = {"extract": {"levels": [2, 4], "pca": 0}}
        for level in (2, 4):
            types = rng.integers(TYPES, size=(len(ids), level * level))
            types[images:] = 0
            vectors = directions[types] + 0.1 * rng.normal(size=(*types.shape, D))
            boxes = np.zeros((*types.shape, 4), np.float32)
            write_shard(writer.path / shard_name(level, 0), ids, boxes, vectors.astype(np.float16), level, {})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_project(30)
    return tmp_path


def test_page_and_figures_are_written_and_the_same_again(project: Path) -> None:
    text = suggest_k("4..7", None, 4, 8000, 0, RUN)
    assert "Stability suggests k = 5" in text
    assert text.endswith("Page: data/suggest_k/index.html")
    written = open_artifact(OUT)
    found = written.json("stability.json")
    assert found["suggested"] == 5
    assert [row["k"] for row in found["results"]] == [4, 5, 6, 7]
    assert found["settings"] | {"features": ""} == {
        "level": 4, "train_images": 30, "cells": 480, "rounds": 4, "seed": 0, "features": ""
    }  # fmt: skip
    assert "k = 5" in written.file("index.html").read_text("utf-8")
    before = {path.name: path.read_bytes() for path in OUT.iterdir()}
    suggest_k("4..7", None, 4, 8000, 0, RUN)
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == before


def test_fewer_cells_of_another_level(project: Path) -> None:
    suggest_k("2", 2, 2, 100, 0, RUN)
    found = json.loads((OUT / "stability.json").read_text("utf-8"))
    assert (found["settings"]["level"], found["settings"]["cells"]) == (2, 100)


def test_the_usual_values_are_clipped_to_the_cells(project: Path) -> None:
    suggest_k(None, 2, 2, 100, 0, RUN)
    found = json.loads((OUT / "stability.json").read_text("utf-8"))
    usual = parse_ks(USUAL)
    tried = [row["k"] for row in found["results"]]
    assert tried == usual[: len(tried)]
    assert 16 <= tried[-1] <= 20  # a half has 12 images of 3 or 4 cells


@pytest.mark.parametrize(
    ("text", "ks"), [("5", [5]), ("2..4", [2, 3, 4]), ("9, 2..3,3", [2, 3, 9]), ("10000000", None)]
)
def test_numbers_of_clusters_are_read(text: str, ks: list[int] | None) -> None:
    if ks:
        assert parse_ks(text) == ks
    else:
        with pytest.raises(ParamsError):
            parse_ks(text)


@pytest.mark.parametrize("text", ["", "1..4", "4..2", "a", "2...4", "2,,3", "-3", "2.5"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(ParamsError, match=r"^--ks: .* is not accepted; give numbers from 2 up"):
        parse_ks(text)


def test_too_many_clusters_are_refused(project: Path) -> None:
    with pytest.raises(ParamsError, match=r"--ks: 25 clusters for halves of 48 cells; ask for at most 24 at level 2"):
        suggest_k("2,25", 2, 2, 8000, 0, RUN)
    assert not OUT.exists()


def test_the_level_must_be_there(project: Path) -> None:
    with pytest.raises(ParamsError, match=r"--level: 8 is not among the levels \[2, 4\] of data/features"):
        suggest_k("2", 8, 2, 8000, 0, RUN)


def test_without_features_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data/features: no features here; run `dvc repro extract` first"):
        suggest_k(None, None, 2, 8000, 0, RUN)


def test_too_few_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(9)
    with pytest.raises(InputError, match=r"usable cells of 9 train images, and comparing halves .* needs 10; add"):
        suggest_k(None, None, 2, 8000, 0, RUN)
