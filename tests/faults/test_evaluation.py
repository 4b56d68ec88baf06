"""Rows 32 to 37: what can make scores wrong."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.figures import check_finite
from pipeline.evaluation.label_maps import decode_labels, encode_labels
from pipeline.evaluation.matching import hungarian
from pipeline.evaluation.metrics import score
from pipeline.runtime.artifacts import write_json
from tests.faults.faulty import make_photos, read_folder, refuse
from tests.graph.project import Project

pytestmark = pytest.mark.graph

FS4 = ("python", "-c", "from pipeline.cli import main; main()")


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_row_32_clusters_and_classes_of_different_number(project: Project, tmp_path: Path) -> None:
    """More clusters than classes, a class that no mask has, a cluster that no pixel has.

    A rectangular Hungarian matching; pixels of unmatched clusters are errors, a many-to-one score stands apart, and
    absent classes are left out of the mean and listed.
    """
    save(tmp_path / "masks/a.png", np.repeat([0, 0, 1, 1], 8).astype(np.uint8).reshape(4, 8))
    folders = (str(tmp_path / "predictions"), str(tmp_path / "masks"), "--output", str(tmp_path / "scores"))
    three = np.repeat([0, 0, 5, 9], 8).astype(np.uint8).reshape(4, 8)
    save(tmp_path / "predictions/a.png", three)
    project.run(*FS4, "score", *folders)
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert metrics["all"]["pixel_accuracy"] == pytest.approx(75.0)
    assert metrics["majority"]["pixel_accuracy"] == pytest.approx(100.0)
    assert sorted(json.loads((tmp_path / "scores/confusion.json").read_text())["class_of_cluster"]) == [-1, 0, 1]

    save(tmp_path / "predictions/a.png", np.minimum(three, 5))
    classes = [{"id": number, "name": name} for number, name in enumerate(("sky", "sea", "ship"))]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes}))
    project.run(*FS4, "score", *folders, "--classes", str(tmp_path / "classes.json"))
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert metrics["per_class"] == {"sky": pytest.approx(100.0), "sea": pytest.approx(100.0)}
    assert metrics["all"]["miou"] == pytest.approx(100.0)
    assert metrics["protocol"]["classes_counted"] == 2
    assert json.loads((tmp_path / "scores/protocol.json").read_text())["absent_classes"] == "ship"


def test_row_33_nothing_but_ignored_pixels(project: Project, tmp_path: Path) -> None:
    """There are masks, and every pixel of them is ignored.

    Exit code 3: nothing to evaluate; never NaN or 0.
    """
    root = make_photos(tmp_path / "photos")
    for mask in (root / "masks/val").iterdir():
        save(mask, np.full((64, 96), 255, np.uint8))
    read_folder(project, root)
    project.stage("prepare")
    refuse(project, "evaluate", 3, "nothing to evaluate")
    make_photos(root)
    project.stage("prepare")
    project.stage("evaluate")


def test_row_34_the_split_that_is_matched(project: Project, tmp_path: Path) -> None:
    """Clusters that are matched to classes on the scored images themselves.

    `evaluate.match_on` chooses the split; it is stored, and the report tells it.
    """
    root = make_photos(tmp_path / "photos")
    for number in range(4):
        save(root / f"masks/train/{number}.png", np.repeat([[0], [1]], 32, 0).repeat(96, 1).astype(np.uint8))
    read_folder(project, root)
    project.stage("prepare")
    for split in ("val", "train"):
        project.set_params({"evaluate": {"match_on": split, "split": "val"}})
        project.stage("evaluate")
        protocol = json.loads((project.root / "data/evaluation/protocol.json").read_text())
        assert (protocol["split"], protocol["matched_on"]) == ("val", split)
    project.stage("report")
    page = (project.root / "data/report/index.html").read_text("utf-8")
    assert "matched on" in page.lower()
    for mask in (root / "masks/train").iterdir():
        mask.unlink()
    project.stage("prepare")
    refuse(project, "evaluate", 2, "evaluate.match_on: 'train' needs masks in split train, which has none; use val")


def test_row_35_many_labels(project: Project, tmp_path: Path) -> None:
    """More than 255 clusters; an ignored value that is a class; 256 classes.

    The width of label maps follows the ids; the class list is refused before any training (exit code 3).
    """
    labels = np.arange(1200).reshape(30, 40)
    np.testing.assert_array_equal(decode_labels(encode_labels(labels)), labels)
    np.testing.assert_array_equal(decode_labels(encode_labels(labels % 256)), labels % 256)
    root = make_photos(tmp_path / "photos")
    classes = [{"id": number, "name": f"c{number}"} for number in range(2)]
    read_folder(project, root)
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignore_index": 1}))
    refuse(project, "prepare", 3, f"{root}/classes.json: ignore_index is 1; it must be a mask value that is no class")
    many = [{"id": number, "name": f"c{number}"} for number in range(256)]
    (root / "classes.json").write_text(json.dumps({"classes": many}))
    refuse(project, "prepare", 3, "256 classes leave no mask value to ignore; use at most 255")
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignore_index": 2}))
    project.stage("prepare")


def test_row_36_more_pixels_than_32_bits_count() -> None:
    """More pixels than fit 32 bits.

    Counts are 64-bit, and exact until the last division.
    """
    truth = np.array([0, 0, 0, 1, 1, 2], np.uint8)
    clusters = np.array([1, 1, 2, 0, 0, 2], np.uint8)
    matrix = confusion_matrix(truth, clusters, classes=3, k=3, ignore_index=255)
    assert matrix.dtype == np.int64
    images = 2**33 + 1
    total = matrix * images
    assert int(total.sum()) == 6 * images
    matched = hungarian(total).apply(total)
    found = score(matched, None)["all"]
    assert found["pixel_accuracy"] == pytest.approx(float(100 * Fraction(5, 6)), rel=1e-12)
    assert found["miou"] == pytest.approx(float(100 * (Fraction(2, 3) + 1 + Fraction(1, 2)) / 3), rel=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_row_37_metrics_that_are_not_finite(tmp_path: Path, value: float) -> None:
    """A metric that is not finite.

    Not written; the stage fails with the metric's name.
    """
    metrics = {"all": {"miou": 1.0}, "stuff": {"miou": value}}
    with pytest.raises(InputError, match=r"metric stuff\.miou is (nan|inf); nothing was written"):
        check_finite(metrics)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "metrics.json", metrics)
    assert not (tmp_path / "metrics.json").exists()
